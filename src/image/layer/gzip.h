#pragma once

#include <memory>
#include <string_view>

#include "base/result.h"
#include "image/layer/inflate.h"

namespace fluyt::image {

/// Compresses into one gzip member (RFC 1952) without a name or a time, so that the same bytes make
/// the same member on machines with the same library. Of one thread at a time.
class GzipWriter {
 public:
  /// The sink is given pieces of the member; its error ends everything and is returned.
  explicit GzipWriter(ByteSink sink);
  GzipWriter(GzipWriter&&) noexcept;
  GzipWriter& operator=(GzipWriter&&) = delete;
  ~GzipWriter();

  Result<> write(std::string_view bytes);
  /// The member's end. Nothing may be written after it.
  Result<> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fluyt::image
