// Compressed bytes as a registry may send them: no crash, and the same in pieces as in one. By its
// first byte an input is those bytes, or says how streams that are well formed are put together:
// members and frames behind each other, with every part that a header may have. Checksums keep
// libFuzzer from coming to such by itself. What those inflate to is known.

#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "image/layer/gzip.h"
#include "image/layer/inflate.h"

namespace {

using namespace fluyt;

constexpr size_t kEnough = 1U << 20U;
constexpr size_t kMaxStreams = 16;
constexpr size_t kMaxStreamBytes = 64U << 10U;  // twice deflate's window

bool inflate(std::string_view bytes, size_t piece, std::string& out) {
  image::Inflater inflater([&](std::string_view some) -> Result<> {
    if (out.size() + some.size() > kEnough) return Error(Code::kResourceExhausted, "enough");
    out += some;
    return {};
  });
  while (!bytes.empty()) {
    if (!inflater.push(bytes.substr(0, piece)).ok()) return false;
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  return inflater.finish().ok();
}

std::string little_endian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xFFU);
  return out;
}

// One member: `flags` are FTEXT, FEXTRA, FNAME and FCOMMENT of RFC 1952 2.3.1, bit 7 has it stored.
std::string gzip_member(std::string_view content, unsigned flags) {
  constexpr size_t kHeadBytes = 10;
  constexpr size_t kTailBytes = 8;
  std::string made;
  image::GzipWriter writer([&](std::string_view some) -> Result<> {
    made += some;
    return {};
  });
  if (!writer.write(content).ok() || !writer.finish().ok()) std::abort();
  std::string out = made.substr(0, kHeadBytes);
  out[3] = static_cast<char>(flags & 0x1DU);
  const auto text = content.substr(0, content.find('\0')).substr(0, 40);
  if ((flags & 0x04U) != 0) out += little_endian(text.size(), 2) + std::string(text);
  if ((flags & 0x08U) != 0) out += std::string(text) + '\0';
  if ((flags & 0x10U) != 0) out += std::string(text) + '\0';
  if ((flags & 0x80U) == 0) {
    out += made.substr(kHeadBytes, made.size() - kHeadBytes - kTailBytes);
  } else {
    do {
      const std::string_view block = content.substr(0, 0xFFFF);
      content.remove_prefix(block.size());
      out += content.empty() ? '\x01' : '\0';
      out += little_endian(block.size(), 2) + little_endian(~block.size(), 2);
      out += block;
    } while (!content.empty());
  }
  return out + made.substr(made.size() - kTailBytes);
}

// One frame, or one that is skipped (RFC 8878 3.1.2): then nothing comes of the content.
std::string zstd_frame(std::string_view content, unsigned flags) {
  if ((flags & 0x80U) != 0) {
    return little_endian(0x184D2A50U | (flags & 0x0FU), 4) + little_endian(content.size(), 4) +
           std::string(content);
  }
  std::string out(ZSTD_compressBound(content.size()), '\0');
  ZSTD_CCtx* const context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, (flags & 0x01U) != 0 ? 1 : 0);
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, (flags & 0x02U) != 0 ? 1 : 0);
  out.resize(ZSTD_compress2(context, out.data(), out.size(), content.data(), content.size()));
  ZSTD_freeCCtx(context);
  return out;
}

struct Built {
  std::string bytes;
  std::string content;
};

// Of each stream: flags, how often its content is repeated, its length, and as many bytes.
Built build(std::string_view plan, bool is_gzip) {
  Built out;
  for (size_t i = 0; i < kMaxStreams && plan.size() >= 3; ++i) {
    const auto flags = static_cast<unsigned char>(plan[0]);
    const auto repeats = static_cast<unsigned char>(plan[1]);
    const auto length = static_cast<unsigned char>(plan[2]);
    const std::string_view piece = plan.substr(3, length);
    plan.remove_prefix(3 + piece.size());
    std::string content;
    for (size_t n = 0; n <= repeats && content.size() < kMaxStreamBytes; ++n) content += piece;
    out.bytes += is_gzip ? gzip_member(content, flags) : zstd_frame(content, flags);
    if (is_gzip || (flags & 0x80U) == 0) out.content += content;
  }
  if (is_gzip && !out.bytes.empty()) out.bytes.append(plan.size(), '\0');  // as tapes end
  return out;
}

void check(std::string_view bytes, const std::string* content, size_t piece) {
  std::string whole;
  std::string pieces;
  const bool whole_ok = inflate(bytes, SIZE_MAX, whole);
  const bool pieces_ok = inflate(bytes, piece, pieces);
  if (whole_ok != pieces_ok || (whole_ok && whole != pieces)) std::abort();
  if (content == nullptr) return;
  const bool is_known = content->size() <= kEnough;
  if (whole_ok != is_known || (whole_ok && whole != *content)) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  // 'g' and 'z' begin no stream of either kind.
  if (!bytes.starts_with('g') && !bytes.starts_with('z')) {
    check(bytes, nullptr, 7);
    return 0;
  }
  const Built built = build(bytes.substr(1), bytes[0] == 'g');
  check(built.bytes, &built.content, 1 + size % 97);
  return 0;
}
