#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "oci/image.h"

/// An image as it goes out where the blobs that its layers came as were not kept: the same
/// configuration, hence the same image by its id, under a manifest with other blobs.
namespace fluyt::image {

/// The type of a layer that is `original`, compressed in another way. Nothing for what its own type
/// says is not to be distributed (image-spec layer.md), and for what is no layer.
enum class LayerCompression { kNone, kGzip };
std::optional<std::string> layer_type(std::string_view original, LayerCompression compression);

/// The manifest's text with other descriptors for the layers at these places. Everything else stays
/// as it is; what was said of the former blobs (annotations, urls) goes with them.
Result<std::string> with_layers(const std::string& manifest,
                                const std::map<size_t, oci::Descriptor>& changed);

}  // namespace fluyt::image
