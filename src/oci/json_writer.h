#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

/// Writing values as JSON: for the bodies of `oci` alone. Keys come in the order they are put, and
/// what is empty is left out, as every Go program does.
namespace fluyt::oci::json {

using Ordered = nlohmann::ordered_json;

inline void put(Ordered& object, const char* key, const std::string& value) {
  if (!value.empty()) object[key] = value;
}
inline void put(Ordered& object, const char* key, bool value) {
  if (value) object[key] = true;
}
template <class T>
void put(Ordered& object, const char* key, const std::optional<T>& value) {
  if (value) object[key] = *value;
}
template <class T>
void put(Ordered& object, const char* key, const std::vector<T>& values) {
  if (!values.empty()) object[key] = values;
}
inline void put(Ordered& object, const char* key,
                const std::map<std::string, std::string>& values) {
  if (!values.empty()) object[key] = values;
}
/// A list whose elements `write_one` turns into JSON.
template <class T, class WriteOne>
void put(Ordered& object, const char* key, const std::vector<T>& values, WriteOne write_one) {
  if (values.empty()) return;
  Ordered& array = object[key] = Ordered::array();
  for (const T& value : values) array.push_back(write_one(value));
}
template <class T, class WriteOne>
void put(Ordered& object, const char* key, const std::optional<T>& value, WriteOne write_one) {
  if (value) object[key] = write_one(*value);
}

/// Text that is not UTF-8 becomes U+FFFD: our own values are checked when they are read, and a dump
/// must not throw.
inline std::string text(const Ordered& value, int indent = -1) {
  return value.dump(indent, ' ', false, Ordered::error_handler_t::replace);
}

}  // namespace fluyt::oci::json
