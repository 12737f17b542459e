#include "streaming/spdy/frames.h"

#include <algorithm>

#include "base/strings.h"
#include "streaming/spdy/words.h"

namespace fluyt::streaming::spdy {
namespace {

constexpr uint16_t kVersion = 3;
constexpr size_t kHeadBytes = 8;
constexpr size_t kMaxPayload = (1UL << 24U) - 1;
constexpr uint32_t kControlBit = 1U << 31U;
constexpr uint8_t kFin = 1;
constexpr uint8_t kUnidirectional = 2;

enum Type : uint16_t {
  kSynStream = 1,
  kSynReply = 2,
  kRstStream = 3,
  kPing = 6,
  kGoAway = 7,
  kHeaders = 8,
};

Error broken(std::string_view what) { return Error(Code::kInvalidArgument, cat("spdy: ", what)); }

/// The first eight bytes of every frame.
std::string control_head(Type type, uint8_t flags, size_t size) {
  std::string head;
  put_u16(head, 0x8000U | kVersion);
  put_u16(head, type);
  put_u32(head, static_cast<uint32_t>(flags) << 24U | static_cast<uint32_t>(size));
  return head;
}

}  // namespace

Result<> FrameReader::feed(std::string_view bytes) {
  while (!bytes.empty() || (in_frame_ && left_ == 0)) {
    if (!in_frame_) {
      const size_t take = std::min(kHeadBytes - head_.size(), bytes.size());
      head_ += bytes.substr(0, take);
      bytes.remove_prefix(take);
      if (head_.size() == kHeadBytes) FLUYT_TRY(begin_frame());
      continue;
    }
    if (is_data_) {
      feed_data(bytes);
      continue;
    }
    const size_t take = std::min(left_, bytes.size());
    payload_ += bytes.substr(0, take);
    bytes.remove_prefix(take);
    left_ -= take;
    if (left_ == 0) {
      in_frame_ = false;
      FLUYT_TRY(end_control());
    }
  }
  return {};
}

Result<> FrameReader::begin_frame() {
  const uint32_t first = get_u32(head_, 0);
  const uint32_t second = get_u32(head_, 4);
  head_.clear();
  payload_.clear();
  in_frame_ = true;
  flags_ = static_cast<uint8_t>(second >> 24U);
  left_ = second & kMaxPayload;
  is_data_ = (first & kControlBit) == 0;
  if (is_data_) {
    stream_ = first;
    if (stream_ == 0) return broken("data on stream 0");
    return {};
  }
  const uint32_t version = first >> 16U & 0x7fffU;
  type_ = static_cast<uint16_t>(first & 0xffffU);
  if (version != kVersion) return broken(cat("version ", version, ": expected ", kVersion));
  if (left_ > kMaxControlBytes) {
    return broken(cat("a control frame of ", left_, " bytes: expected at most ", kMaxControlBytes));
  }
  return {};
}

void FrameReader::feed_data(std::string_view& bytes) {
  const size_t take = std::min(left_, bytes.size());
  const std::string_view piece = bytes.substr(0, take);
  bytes.remove_prefix(take);
  left_ -= take;
  if (!piece.empty()) visitor_.on_data(stream_, piece);
  if (left_ == 0) {
    in_frame_ = false;
    if ((flags_ & kFin) != 0) visitor_.on_fin(stream_);
  }
}

Result<> FrameReader::take_syn_stream() {
  constexpr size_t kFixed = 10;  // the stream, the one it belongs to, priority and slot
  if (payload_.size() < kFixed) return broken("SYN_STREAM is too short");
  SynStream frame{.id = get_u32(payload_, 0) & ~kControlBit,
                  .fin = (flags_ & kFin) != 0,
                  .unidirectional = (flags_ & kUnidirectional) != 0,
                  .headers = {}};
  if (frame.id == 0) return broken("SYN_STREAM of stream 0");
  frame.headers = FLUYT_TRY(inflater_.read(std::string_view(payload_).substr(kFixed)));
  visitor_.on_syn_stream(frame);
  return {};
}

/// SYN_REPLY and HEADERS. What they say is of no use to us, but the next block is compressed with
/// what this one said.
Result<> FrameReader::take_stream_headers() {
  if (payload_.size() < 4) return broken("a control frame without its stream");
  const uint32_t stream = get_u32(payload_, 0) & ~kControlBit;
  if (stream == 0) return broken("headers of stream 0");
  (void)FLUYT_TRY(inflater_.read(std::string_view(payload_).substr(4)));
  const bool fin = (flags_ & kFin) != 0;
  if (type_ == kSynReply) {
    visitor_.on_syn_reply(stream, fin);
  } else if (fin) {
    visitor_.on_fin(stream);
  }
  return {};
}

Result<> FrameReader::end_control() {
  switch (type_) {
    case kSynStream:
      return take_syn_stream();
    case kSynReply:
    case kHeaders:
      return take_stream_headers();
    case kRstStream:
      if (payload_.size() != 8) return broken("RST_STREAM: expected 8 bytes");
      visitor_.on_reset(get_u32(payload_, 0) & ~kControlBit, get_u32(payload_, 4));
      return {};
    case kPing:
      if (payload_.size() != 4) return broken("PING: expected 4 bytes");
      visitor_.on_ping(get_u32(payload_, 0));
      return {};
    case kGoAway:
      if (payload_.size() != 8) return broken("GOAWAY: expected 8 bytes");
      visitor_.on_go_away();
      return {};
    default:
      return {};
  }
}

std::string write_data(uint32_t stream, std::string_view bytes, bool fin) {
  std::string frames;
  do {
    const std::string_view piece = bytes.substr(0, kMaxPayload);
    bytes.remove_prefix(piece.size());
    const uint32_t flags = fin && bytes.empty() ? kFin : 0;
    put_u32(frames, stream);
    put_u32(frames, flags << 24U | static_cast<uint32_t>(piece.size()));
    frames += piece;
  } while (!bytes.empty());
  return frames;
}

std::string write_reset(uint32_t stream, ResetStatus status) {
  std::string frame = control_head(kRstStream, 0, 8);
  put_u32(frame, stream);
  put_u32(frame, static_cast<uint32_t>(status));
  return frame;
}

std::string write_ping(uint32_t id) {
  std::string frame = control_head(kPing, 0, 4);
  put_u32(frame, id);
  return frame;
}

std::string write_go_away(uint32_t last_stream, bool is_error) {
  std::string frame = control_head(kGoAway, 0, 8);
  put_u32(frame, last_stream);
  put_u32(frame, is_error ? 1 : 0);
  return frame;
}

std::string write_syn_stream(const SynStream& frame, HeaderDeflater& deflater) {
  const std::string block = deflater.write(frame.headers);
  const auto flags =
      static_cast<uint8_t>((frame.fin ? kFin : 0) | (frame.unidirectional ? kUnidirectional : 0));
  std::string bytes = control_head(kSynStream, flags, block.size() + 10);
  put_u32(bytes, frame.id);
  put_u32(bytes, 0);
  put_u16(bytes, 0);
  return bytes + block;
}

std::string write_syn_reply(uint32_t stream, const Headers& headers, HeaderDeflater& deflater) {
  const std::string block = deflater.write(headers);
  std::string bytes = control_head(kSynReply, 0, block.size() + 4);
  put_u32(bytes, stream);
  return bytes + block;
}

}  // namespace fluyt::streaming::spdy
