#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "streaming/spdy/frames.h"

/// For fuzzers: well-formed frames out of any bytes. Header blocks are compressed, and frames say
/// how long they are: neither is found by changing bytes.
namespace fluyt::streaming::spdy {

struct Piece {
  uint8_t kind = 0;
  std::string bytes;
};

/// Of each a byte for its kind, one for its length, and its bytes. With kLong in the kind it is as
/// long as no text may be, or 257 times its length, and its bytes are repeated as often as it
/// takes.
inline std::vector<Piece> read_pieces(std::string_view input) {
  constexpr uint8_t kLong = 0x80;
  constexpr size_t kLongest = (1UL << 20U) + 1;
  constexpr size_t kMaxBytes = 4UL << 20U;  // of all
  std::vector<Piece> pieces;
  size_t total = 0;
  while (input.size() >= 2 && total < kMaxBytes) {
    Piece piece{.kind = static_cast<uint8_t>(input[0]), .bytes = {}};
    const size_t length = static_cast<uint8_t>(input[1]);
    const std::string_view bytes = input.substr(2, length);
    input.remove_prefix(2 + bytes.size());
    if ((piece.kind & kLong) == 0 || bytes.empty()) {
      piece.bytes = bytes;
    } else {
      const size_t wanted = length == 0xff ? kLongest : length * 257;
      while (piece.bytes.size() < wanted) piece.bytes += bytes;
      piece.bytes.resize(wanted);
    }
    total += piece.bytes.size();
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

inline std::string frame_of(const Piece& piece, HeaderDeflater& deflater) {
  constexpr std::array<std::string_view, 8> kTypes = {"data",   "error",  "stdin", "stdout",
                                                      "stderr", "resize", "",      "data"};
  if (piece.bytes.empty()) return write_ping(piece.kind);
  const uint32_t stream = static_cast<uint8_t>(piece.bytes[0]);
  const std::string rest = piece.bytes.substr(1);
  const bool fin = (piece.kind & 0x08U) != 0;
  switch ((piece.kind >> 4U) & 0x03U) {
    case 0: {
      const size_t cut = rest.find(' ');
      Headers headers = {{"streamtype", std::string(kTypes.at(piece.kind & 0x07U))},
                         {"port", rest.substr(0, cut)}};
      if (cut != std::string::npos) headers.emplace_back("requestid", rest.substr(cut + 1));
      return write_syn_stream({.id = stream, .fin = fin, .headers = headers}, deflater);
    }
    case 1:
      return write_data(stream, rest, fin);
    case 2:
      return write_reset(stream, ResetStatus::kCancel);
    default:
      return piece.bytes;
  }
}

}  // namespace fluyt::streaming::spdy
