#include "image/layer/inflate.h"

#include <utility>

#include "image/layer/inflate_method.h"

namespace fluyt::image {

namespace {

constexpr size_t kMagicBytes = 4;
constexpr std::string_view kGzipMagic = "\x1f\x8b";
constexpr std::string_view kZstdMagic = "\x28\xb5\x2f\xfd";

// 0x184D2A50 to 0x184D2A5F, little endian (RFC 8878 3.1.2).
bool is_skippable_frame(std::string_view head) {
  return head.size() >= kMagicBytes && (static_cast<unsigned char>(head[0]) & 0xF0U) == 0x50 &&
         head.substr(1, 3) == "\x2a\x4d\x18";
}

class PlainMethod final : public Inflater::Method {
 public:
  std::string_view name() const override { return "none"; }
  Result<> push(std::string_view bytes, const ByteSink& sink) override { return sink(bytes); }
  Result<> finish() override { return {}; }
};

}  // namespace

Inflater::Inflater(ByteSink sink) : sink_(std::move(sink)) {}
Inflater::~Inflater() = default;

std::string_view Inflater::compression() const { return method_ ? method_->name() : "none"; }

Result<> Inflater::start() {
  if (head_.starts_with(kGzipMagic)) {
    method_ = make_gzip_method();
  } else if (head_.starts_with(kZstdMagic) || is_skippable_frame(head_)) {
    method_ = FLUYT_TRY(make_zstd_method());
  } else {
    method_ = std::make_unique<PlainMethod>();
  }
  return {};
}

Result<> Inflater::push(std::string_view bytes) {
  if (method_) return method_->push(bytes, sink_);
  if (head_.size() + bytes.size() < kMagicBytes) {
    head_ += bytes;
    return {};
  }
  const std::string_view missing = bytes.substr(0, kMagicBytes - head_.size());
  head_ += missing;
  FLUYT_TRY(start());
  FLUYT_TRY(method_->push(head_, sink_));
  bytes.remove_prefix(missing.size());
  return bytes.empty() ? Result<>() : method_->push(bytes, sink_);
}

Result<> Inflater::finish() {
  if (!method_) {
    if (head_.empty()) return {};
    FLUYT_TRY(start());
    FLUYT_TRY(method_->push(head_, sink_));
  }
  return method_->finish();
}

}  // namespace fluyt::image
