#include "image/layer/inflate.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "image/layer/inflate_method.h"

namespace fluyt::image {

namespace {

// What one call of a decoder may give: large enough that the calls behind it cost nothing, small
// enough to stay in the second-level cache.
constexpr size_t kBufferBytes = 256UL << 10U;
constexpr std::string_view kGzipMagic = "\x1f\x8b";
class PlainMethod final : public Inflater::Method {
 public:
  std::string_view name() const override { return "none"; }
  Result<> push(std::string_view bytes, InflateTarget& target) override {
    while (!bytes.empty()) {
      const std::span<char> room = FLUYT_TRY(target.room());
      const size_t size = std::min(room.size(), bytes.size());
      std::copy_n(bytes.begin(), size, room.begin());
      bytes.remove_prefix(size);
      FLUYT_TRY(target.made(size));
    }
    return {};
  }
  Result<> finish() override { return {}; }
};

class SinkTarget final : public InflateTarget {
 public:
  explicit SinkTarget(ByteSink sink) : sink_(std::move(sink)), buffer_(kBufferBytes) {}
  Result<std::span<char>> room() override { return std::span<char>(buffer_); }
  Result<> made(size_t bytes) override { return sink_({buffer_.data(), bytes}); }

 private:
  const ByteSink sink_;
  std::vector<char> buffer_;
};

}  // namespace

Inflater::Inflater(ByteSink sink)
    : own_(std::make_unique<SinkTarget>(std::move(sink))), target_(*own_) {}
Inflater::Inflater(InflateTarget& target) : target_(target) {}
Inflater::~Inflater() = default;

std::string_view Inflater::compression() const { return method_ ? method_->name() : "none"; }

Result<> Inflater::start() {
  if (head_.starts_with(kGzipMagic)) {
    method_ = make_gzip_method();
  } else if (is_zstd_frame(head_)) {
    method_ = FLUYT_TRY(make_zstd_method());
  } else {
    method_ = std::make_unique<PlainMethod>();
  }
  return {};
}

Result<> Inflater::push(std::string_view bytes) {
  if (method_) return method_->push(bytes, target_);
  if (head_.size() + bytes.size() < kFrameMagicBytes) {
    head_ += bytes;
    return {};
  }
  const std::string_view missing = bytes.substr(0, kFrameMagicBytes - head_.size());
  head_ += missing;
  FLUYT_TRY(start());
  FLUYT_TRY(method_->push(head_, target_));
  bytes.remove_prefix(missing.size());
  return bytes.empty() ? Result<>() : method_->push(bytes, target_);
}

Result<> Inflater::finish() {
  if (!method_) {
    if (head_.empty()) return {};
    FLUYT_TRY(start());
    FLUYT_TRY(method_->push(head_, target_));
  }
  return method_->finish();
}

}  // namespace fluyt::image
