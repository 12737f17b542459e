#include "network/builtin/fields.h"

#include <algorithm>
#include <array>

#include "base/strings.h"

namespace fluyt::network {

namespace {

// What the chain puts in or takes out, and what says nothing about the network.
constexpr std::array<std::string_view, 7> kEverywhere = {
    "type", "name", "cniVersion", "cniVersions", "capabilities", "runtimeConfig", "prevResult"};

const Json* find_value(const Json& object, const char* field) {
  const auto found = object.find(field);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

}  // namespace

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() <= 96 ? text : cat(text.substr(0, 96), "...");
}

Error wrong_field(std::string_view field, const Json& value, std::string_view expected) {
  return {Code::kInvalidArgument, cat(field, ": ", expected, " is expected, not ", shown(value))};
}

Result<bool> flag_of(const Json& object, const char* field, bool otherwise) {
  const Json* value = find_value(object, field);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) return wrong_field(field, *value, "true or false");
  return value->get<bool>();
}

Result<std::string> text_of(const Json& object, const char* field, std::string otherwise) {
  const Json* value = find_value(object, field);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) return wrong_field(field, *value, "text");
  return value->get<std::string>();
}

Result<int64_t> number_of(const Json& object, const char* field, int64_t least, int64_t most,
                          int64_t otherwise) {
  const Json* value = find_value(object, field);
  if (value == nullptr) return otherwise;
  const bool whole = value->is_number_integer() &&
                     !(value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX);
  if (!whole || value->get<int64_t>() < least || value->get<int64_t>() > most) {
    return wrong_field(field, *value, cat("a number from ", least, " to ", most));
  }
  return value->get<int64_t>();
}

Result<std::optional<Address>> address_of(const Json& object, const char* field) {
  const Json* value = find_value(object, field);
  if (value == nullptr) return std::optional<Address>();
  if (value->is_string() && value->get_ref<const std::string&>().empty()) {
    return std::optional<Address>();
  }
  auto address = value->is_string() ? find_address(value->get_ref<const std::string&>())
                                    : std::optional<Address>();
  if (!address) return wrong_field(field, *value, "an IP address");
  return address;
}

Result<std::string> device_of(const Json& object, const char* field, std::string otherwise) {
  std::string name = FLUYT_TRY(text_of(object, field, otherwise));
  if (name.empty()) name = std::move(otherwise);
  const bool good = !name.empty() && name.size() <= 15 && name != "." && name != ".." &&
                    name.find_first_of("/: \t\r\n\v\f") == std::string::npos &&
                    !has_control_characters(name);
  if (!good) return wrong_field(field, name, "a device's name of at most 15 bytes");
  return name;
}

std::string replaced(std::string text, std::string_view word, std::string_view by) {
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + by.size())) {
    text.replace(at, word.size(), by);
  }
  return text;
}

Result<std::set<std::string>> valid_owners(const Json& request) {
  constexpr const char* kField = "cni.dev/valid-attachments";
  std::set<std::string> out;
  const auto list = request.find(kField);
  if (list == request.end() || !list->is_array()) {
    return wrong_field(kField, list == request.end() ? Json() : *list, "a list");
  }
  for (const Json& item : *list) {
    const std::string id = FLUYT_TRY_CONTEXT(text_of(item, "containerID"), kField);
    const std::string device = FLUYT_TRY_CONTEXT(text_of(item, "ifname"), kField);
    if (id.empty() || device.empty()) return wrong_field(kField, item, "containerID and ifname");
    out.insert(cat(id, "/", device));
  }
  return out;
}

std::vector<std::string> unknown_keys(const Json& object,
                                      const std::vector<std::string_view>& known) {
  std::vector<std::string> out;
  for (const auto& [key, value] : object.items()) {
    const bool named = std::find(known.begin(), known.end(), key) != known.end() ||
                       std::find(kEverywhere.begin(), kEverywhere.end(), key) != kEverywhere.end();
    if (!named) out.push_back(key);
  }
  return out;
}

}  // namespace fluyt::network
