#include <zstd.h>

#include <vector>

#include "base/strings.h"
#include "image/layer/inflate_method.h"

namespace fluyt::image {

namespace {

struct StreamFreer {
  void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
};

class ZstdMethod final : public Inflater::Method {
 public:
  explicit ZstdMethod(std::unique_ptr<ZSTD_DStream, StreamFreer> stream)
      : stream_(std::move(stream)), out_(kInflateBufferBytes) {}
  std::string_view name() const override { return "zstd"; }

  // The library goes from frame to frame by itself, over skippable ones too.
  Result<> push(std::string_view bytes, const ByteSink& sink) override {
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    bool full = false;
    while (in.pos < in.size || full) {
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const size_t status = ZSTD_decompressStream(stream_.get(), &out, &in);
      if (ZSTD_isError(status) != 0) {
        return Error(Code::kDataLoss, cat("zstd: ", ZSTD_getErrorName(status)));
      }
      if (out.pos != 0) FLUYT_TRY(sink({out_.data(), out.pos}));
      frame_ended_ = status == 0;
      full = out.pos == out.size && !frame_ended_;
    }
    return {};
  }

  Result<> finish() override {
    if (!frame_ended_) return Error(Code::kDataLoss, "zstd: the stream ends in the middle");
    return {};
  }

 private:
  std::unique_ptr<ZSTD_DStream, StreamFreer> stream_;
  std::vector<char> out_;
  bool frame_ended_ = false;
};

}  // namespace

Result<std::unique_ptr<Inflater::Method>> make_zstd_method() {
  std::unique_ptr<ZSTD_DStream, StreamFreer> stream(ZSTD_createDStream());
  if (stream == nullptr) return Error(Code::kResourceExhausted, "zstd: no memory");
  ZSTD_DCtx_setParameter(stream.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  return std::unique_ptr<Inflater::Method>(std::make_unique<ZstdMethod>(std::move(stream)));
}

}  // namespace fluyt::image
