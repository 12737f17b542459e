#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "base/strings.h"

/// Reading JSON into values: for the bodies of `oci` and `oci/cdi` alone (it brings the whole
/// of nlohmann/json in). Reading is a walk that notes the first thing wrong, with its path, and
/// reads on without effect; the caller looks once, at the end. Null counts as absent, as it does
/// for every Go program.
namespace fluyt::oci::json {

using Json = nlohmann::json;

inline constexpr size_t kMaxDepth = 64;

/// Parses one JSON text of at most `max_bytes`. Deeper than kMaxDepth, a key twice in one object
/// and a NUL character in a string are refused: other readers of the same bytes would not agree
/// with us.
Result<Json> parse_text(std::string_view text, size_t max_bytes);

/// The first thing found wrong.
class Findings {
 public:
  bool any() const { return error_.has_value(); }
  void note(Error error) {
    if (!error_) error_ = std::move(error);
  }
  /// The error, or nothing.
  Result<> take() {
    if (error_) return std::move(*error_);
    return {};
  }

 private:
  std::optional<Error> error_;
};

/// A place in the document: its value, and how one got there (parents live on the callers' stacks).
class Node {
 public:
  Node(const Json& value, Findings& findings) : value_(&value), findings_(&findings) {}
  /// The member `key`; map keys are shown in brackets, since they are the document's own words.
  enum class Kind { kRoot, kField, kMapKey, kIndex };
  Node(const Json& value, const Node& parent, Kind kind, std::string_view key, size_t index)
      : value_(&value),
        findings_(parent.findings_),
        parent_(&parent),
        kind_(kind),
        key_(key),
        index_(index) {}

  const Json& value() const { return *value_; }
  Findings& findings() const { return *findings_; }
  bool failed() const { return findings_->any(); }
  /// linux.namespaces[2].type
  std::string path() const;
  /// Notes `<path>: <value>: expected <expected>`.
  void expected(std::string_view what) const;
  /// Notes `<path>: <why>`.
  void refuse(std::string_view why) const;

 private:
  const Json* value_;
  Findings* findings_;
  const Node* parent_ = nullptr;
  Kind kind_ = Kind::kRoot;
  std::string_view key_;
  size_t index_ = 0;
};

void read(const Node& node, bool& out);
void read(const Node& node, std::string& out);

template <std::integral T>
  requires(!std::same_as<T, bool>)
void read(const Node& node, T& out) {
  const Json& value = node.value();
  if (value.is_number_unsigned()) {
    const uint64_t number = *value.get_ptr<const uint64_t*>();
    if (std::in_range<T>(number)) {
      out = static_cast<T>(number);
      return;
    }
  } else if (value.is_number_integer()) {
    const int64_t number = *value.get_ptr<const int64_t*>();
    if (std::in_range<T>(number)) {
      out = static_cast<T>(number);
      return;
    }
  }
  if constexpr (std::is_unsigned_v<T>) {
    node.expected(cat("an unsigned integer up to ", std::numeric_limits<T>::max()));
  } else {
    node.expected(cat("an integer from ", std::numeric_limits<T>::min(), " to ",
                      std::numeric_limits<T>::max()));
  }
}

/// Each element of an array.
template <class T, class ReadOne>
void read_list(const Node& node, std::vector<T>& out, ReadOne read_one) {
  const Json& value = node.value();
  if (!value.is_array()) {
    node.expected("an array");
    return;
  }
  out.clear();
  out.reserve(value.size());
  for (size_t i = 0; i < value.size() && !node.failed(); ++i) {
    read_one(Node(value[i], node, Node::Kind::kIndex, {}, i), out.emplace_back());
  }
}

/// Each member of an object whose keys are the document's own.
template <class T, class ReadOne>
void read_map(const Node& node, std::map<std::string, T>& out, ReadOne read_one) {
  const Json& value = node.value();
  if (!value.is_object()) {
    node.expected("an object");
    return;
  }
  out.clear();
  for (auto it = value.begin(); it != value.end() && !node.failed(); ++it) {
    read_one(Node(it.value(), node, Node::Kind::kMapKey, it.key(), 0), out[it.key()]);
  }
}

inline void read(const Node& node, std::vector<std::string>& out) {
  read_list(node, out, [](const Node& at, std::string& one) { read(at, one); });
}
inline void read(const Node& node, std::vector<uint32_t>& out) {
  read_list(node, out, [](const Node& at, uint32_t& one) { read(at, one); });
}
inline void read(const Node& node, std::map<std::string, std::string>& out) {
  read_map(node, out, [](const Node& at, std::string& one) { read(at, one); });
}

/// An object with fields that we know. A node that is something else is noted, and has no fields.
class Object {
 public:
  explicit Object(const Node& node) : node_(&node) {
    if (!node.value().is_object()) {
      node.expected("an object");
    }
  }

  bool has(std::string_view key) const { return find(key) != nullptr; }
  const Node& node() const { return *node_; }

  /// Hands the field, when it is there, to `use(node)`.
  template <class Use>
  bool with(std::string_view key, Use use) const {
    const Json* value = find(key);
    if (value == nullptr || node_->failed()) {
      return false;
    }
    use(Node(*value, *node_, Node::Kind::kField, key, 0));
    return true;
  }

  template <class T>
  bool field(std::string_view key, T& out) const {
    return with(key, [&](const Node& at) { read(at, out); });
  }
  template <class T>
  bool field(std::string_view key, std::optional<T>& out) const {
    return with(key, [&](const Node& at) { read(at, out.emplace()); });
  }
  template <class T, class ReadOne>
  bool object(std::string_view key, T& out, ReadOne read_one) const {
    return with(key, [&](const Node& at) { read_one(at, out); });
  }
  template <class T, class ReadOne>
  bool object(std::string_view key, std::optional<T>& out, ReadOne read_one) const {
    return with(key, [&](const Node& at) { read_one(at, out.emplace()); });
  }
  template <class T, class ReadOne>
  bool list(std::string_view key, std::vector<T>& out, ReadOne read_one) const {
    return with(key, [&](const Node& at) { read_list(at, out, read_one); });
  }
  template <class T, class ReadOne>
  bool map(std::string_view key, std::map<std::string, T>& out, ReadOne read_one) const {
    return with(key, [&](const Node& at) { read_map(at, out, read_one); });
  }
  /// A string that must be one of `names`.
  bool one_of(std::string_view key, std::string& out,
              std::span<const std::string_view> names) const;
  /// Strings that must each be one of `names`.
  bool some_of(std::string_view key, std::vector<std::string>& out,
               std::span<const std::string_view> names) const;
  /// Notes that `key` is missing unless it is there.
  void require(std::string_view key) const;
  /// Notes `<path>.<key>: <why>`.
  void refuse(std::string_view key, std::string_view why) const;

 private:
  const Json* find(std::string_view key) const;
  const Node* node_;
};

/// "one of a, b, c".
std::string one_of_text(std::span<const std::string_view> names);
bool is_one_of(std::string_view value, std::span<const std::string_view> names);

}  // namespace fluyt::oci::json
