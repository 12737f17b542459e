#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "network/builtin/fields.h"

/// Results of plugins, which change a little from version to version.
namespace fluyt::network {

/// `result`, of any form from 0.3.0 on, in that of `version`.
Json in_form_of(Json result, const std::string& version);

/// The addresses of `device` in the sandbox that a result names. Entries that are no addresses are
/// an error: results come from other plugins too.
Result<std::vector<Prefix>> addresses_of(const Json& result, std::string_view device);

/// Six bytes from "02:42:0a:58:00:01"; none where there is no such field or it is empty.
Result<std::string> mac_of(const Json& object, const char* field);
/// "02:42:0a:58:00:01" from six bytes; empty for other lengths.
std::string mac_text(std::string_view bytes);

}  // namespace fluyt::network
