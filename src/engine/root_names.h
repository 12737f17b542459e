#pragma once

#include <cstddef>
#include <string>

/// What the image store's roots are called: a container's own by its id, and one more for each
/// image that is a volume of it.
namespace fluyt::engine {

/// Of the image that is the container's mounts[place].
std::string image_volume_holder(const std::string& container_id, size_t place);
/// The container whose a root is.
std::string container_of_root(const std::string& root_id);

}  // namespace fluyt::engine
