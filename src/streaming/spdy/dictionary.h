#pragma once

#include <string>

namespace fluyt::streaming::spdy {

/// The dictionary that header blocks of SPDY/3 are compressed with (draft 3.1, §2.6.10.1): words
/// with their length in front, then a text of common values.
const std::string& dictionary();

}  // namespace fluyt::streaming::spdy
