#include <zstd.h>

#include <span>
#include <string>
#include <utility>

#include "base/strings.h"
#include "image/layer/inflate_method.h"

namespace fluyt::image {

namespace {

constexpr std::string_view kMagic = "\x28\xb5\x2f\xfd";

Error broken(std::string_view what) { return Error(Code::kDataLoss, cat("zstd: ", what)); }

struct StreamFreer {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

class ZstdMethod final : public Inflater::Method {
 public:
  explicit ZstdMethod(std::unique_ptr<ZSTD_DStream, StreamFreer> stream)
      : stream_(std::move(stream)) {}
  std::string_view name() const override { return "zstd"; }

  Result<> push(std::string_view bytes, InflateTarget& target) override {
    while (!bytes.empty()) {
      if (between_frames_) {
        const std::string_view missing = bytes.substr(0, kFrameMagicBytes - head_.size());
        head_ += missing;
        bytes.remove_prefix(missing.size());
        if (head_.size() < kFrameMagicBytes) return {};
        // The library reads formats of before the standard, too, which no image has.
        if (!is_zstd_frame(head_)) return broken("bytes that are not a frame of RFC 8878");
        between_frames_ = false;
        FLUYT_TRY(decode(std::exchange(head_, {}), target));
      }
      bytes.remove_prefix(FLUYT_TRY(decode(bytes, target)));
    }
    return {};
  }

  Result<> finish() override {
    if (!between_frames_ || !head_.empty()) return broken("the stream ends in the middle");
    return {};
  }

 private:
  // To the end of the frame at most; says how many bytes it took.
  Result<size_t> decode(std::string_view bytes, InflateTarget& target) {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    bool full = false;
    while (!between_frames_ && (in.pos < in.size || full)) {
      const std::span<char> room = FLUYT_TRY(target.room());
      ZSTD_outBuffer out{room.data(), room.size(), 0};
      const size_t status = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_isError(status) != 0) return broken(ZSTD_getErrorName(status));
      if (out.pos != 0) FLUYT_TRY(target.made(out.pos));
      between_frames_ = status == 0;
      full = out.pos == out.size;
    }
    return in.pos;
  }

  std::unique_ptr<ZSTD_DStream, StreamFreer> stream_;
  std::string head_;  // of a frame, until there is enough to tell what it is
  bool between_frames_ = true;
};

}  // namespace

// A skippable one has 0x184D2A50 to 0x184D2A5F, little endian.
bool is_zstd_frame(std::string_view head) {
  return head.starts_with(kMagic) || (head.size() >= kFrameMagicBytes &&
                                      (static_cast<unsigned char>(head[0]) & 0xF0U) == 0x50 &&
                                      head.substr(1, 3) == "\x2a\x4d\x18");
}

Result<std::unique_ptr<Inflater::Method>> make_zstd_method() {
  std::unique_ptr<ZSTD_DStream, StreamFreer> stream(ZSTD_createDStream());
  if (stream == nullptr) return Error(Code::kResourceExhausted, "zstd: no memory");
  ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  return std::unique_ptr<Inflater::Method>(std::make_unique<ZstdMethod>(std::move(stream)));
}

}  // namespace fluyt::image
