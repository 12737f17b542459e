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
  virtual Result<> push(std::string_view bytes, const ByteSink& sink) = 0;
  virtual Result<> finish() = 0;
};

/// What one call of a decoder may give: large enough that the calls behind it cost nothing, small
/// enough to stay in the second-level cache.
inline constexpr size_t kInflateBufferBytes = 256UL << 10U;

std::unique_ptr<Inflater::Method> make_gzip_method();
Result<std::unique_ptr<Inflater::Method>> make_zstd_method();

}  // namespace fluyt::image
