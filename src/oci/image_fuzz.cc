#include <cstdint>
#include <cstdlib>

#include "oci/image.h"

/// What is taken must be printable, and taken again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace oci = fluyt::oci;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto both = oci::parse_manifest_or_index(text, "");
  if (both.ok()) {
    if (both->manifest.has_value() == both->index.has_value()) {
      abort();
    }
    if (both->manifest && !oci::parse_manifest(oci::to_json(*both->manifest)).ok()) {
      abort();
    }
    if (both->index) {
      if (!oci::parse_index(oci::to_json(*both->index)).ok()) {
        abort();
      }
      oci::choose_platform(*both->index, oci::Platform::host()).ignore("either answer is fine");
    }
  }
  // A server's word for what it sends changes nothing but whether it is taken.
  for (const auto type : {oci::media_type::kOciManifest, oci::media_type::kDockerManifest,
                          oci::media_type::kOciIndex, oci::media_type::kDockerList}) {
    const bool is_index =
        type == oci::media_type::kOciIndex || type == oci::media_type::kDockerList;
    const auto said = oci::parse_manifest_or_index(text, type);
    if (said.ok() && (!both.ok() || said->index.has_value() != is_index ||
                      both->index.has_value() != is_index)) {
      abort();
    }
  }
  const auto config = oci::parse_image_config(text);
  if (config.ok()) {
    const std::string printed = oci::to_json(*config);
    const auto again = oci::parse_image_config(printed);
    if (!again.ok() || oci::to_json(*again) != printed) {
      abort();
    }
  }
  return 0;
}
