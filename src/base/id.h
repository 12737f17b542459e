#pragma once

#include <string>
#include <string_view>

namespace fluyt {

/// A new object id: 64 lower-case hexadecimal digits from the kernel's random source, the form that
/// every CRI and Docker client expects.
std::string make_id();

/// Whether `text` may name a container on runf's command line and in our state folders: 1 to 1024
/// characters of [A-Za-z0-9_+.-], not "." or "..".
bool is_valid_container_id(std::string_view text);

}  // namespace fluyt
