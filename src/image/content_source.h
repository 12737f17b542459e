#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/image.h"

namespace fluyt::image {

/// Where an image's content comes from: a registry, or an archive on disk. Nothing that it gives is
/// believed: digests are checked by whoever asks. Thread-safe.
class ContentSource {
 public:
  ContentSource() = default;
  ContentSource(const ContentSource&) = delete;
  ContentSource& operator=(const ContentSource&) = delete;
  virtual ~ContentSource() = default;

  /// A manifest or index below an index, whole.
  virtual Result<std::string> manifest(const oci::Descriptor& descriptor) = 0;
  /// Streams a config or layer from its start, in order; descriptor.size bytes or an error.
  virtual Result<> stream(const oci::Descriptor& descriptor,
                          const std::function<Result<>(std::string_view)>& sink) = 0;
  /// The bytes of the last stream() of this blob were wrong. True when another server may have
  /// others.
  virtual bool has_another(const oci::Descriptor& descriptor) = 0;
};

}  // namespace fluyt::image
