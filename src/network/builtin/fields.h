#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "network/builtin/address.h"

/// Fields of a plugin's configuration. Every error names the field, its value and what is expected.
namespace fluyt::network {

using Json = nlohmann::json;

/// `value` as an error shows it: JSON, cut.
std::string shown(const Json& value);
Error wrong_field(std::string_view field, const Json& value, std::string_view expected);

Result<bool> flag_of(const Json& object, const char* field, bool otherwise = false);
Result<std::string> text_of(const Json& object, const char* field, std::string otherwise = {});
Result<int64_t> number_of(const Json& object, const char* field, int64_t least, int64_t most,
                          int64_t otherwise);
Result<std::optional<Address>> address_of(const Json& object, const char* field);
/// A device's name: 1 to 15 bytes without '/', ':' and white space, neither "." nor "..".
Result<std::string> device_of(const Json& object, const char* field, std::string otherwise);

/// `text` with every `word` in it replaced.
std::string replaced(std::string text, std::string_view word, std::string_view by);

/// "ID/DEVICE" of each of a GC's valid attachments. An entry that is none is an error: what it
/// means must not be removed.
Result<std::set<std::string>> valid_owners(const Json& request);

/// The keys of `object` that are neither `known` nor such as every plugin has.
std::vector<std::string> unknown_keys(const Json& object,
                                      const std::vector<std::string_view>& known);

}  // namespace fluyt::network
