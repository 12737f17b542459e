#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/core.h"

/// Volumes that are an image's tree: read-only, held by a root of their own in the image store, so
/// that the layers stay while the container is there.
namespace fluyt::engine {

/// How an error begins that is about one: the word that the kubelet looks for.
inline constexpr std::string_view kImageVolumeFailed = "ImageVolumeMountFailed";

/// What stands for the source of such a mount in the runtime's specification; nothing is there.
std::string image_volume_source(const std::string& bundle, size_t place);

/// Finds the image of each such mount and says which it is (image_id). One that is not here is
/// kInvalidArgument.
Result<> find_image_volumes(Engine::Core& core, ContainerConfig& config);

/// An error of the runtime that is about one, by the word that callers look for.
Error about_image_volume(const Container& container, Error error);

/// Their trees, by their sources.
Result<std::map<std::string, sys::OverlayMount>> make_image_volumes(Engine::Core& core,
                                                                    const Container& container,
                                                                    const Sandbox& sandbox);

}  // namespace fluyt::engine
