#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fluyt {

/// RFC 4648 §4, with padding.
std::string base64_encode(std::string_view bytes);
/// Reads both alphabets (§4 and the URL-safe one of §5), with or without padding; anything else,
/// white space too, is nothing.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace fluyt
