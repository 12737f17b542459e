#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "image/layer/inflate.h"

namespace fluyt::image {

class Inflater::Method {
 public:
  Method() = default;
  Method(const Method&) = delete;
  Method& operator=(const Method&) = delete;
  virtual ~Method() = default;
  virtual std::string_view name() const = 0;
  virtual Result<> push(std::string_view bytes, InflateTarget& target) = 0;
  virtual Result<> finish() = 0;
};

/// How many bytes tell what a frame of zstd is; gzip's head is shorter.
inline constexpr size_t kFrameMagicBytes = 4;
/// Whether those are the first of a frame (RFC 8878 3.1), a skippable one too.
bool is_zstd_frame(std::string_view head);

std::unique_ptr<Inflater::Method> make_gzip_method();
Result<std::unique_ptr<Inflater::Method>> make_zstd_method();

}  // namespace fluyt::image
