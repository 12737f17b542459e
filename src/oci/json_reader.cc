#include "oci/json_reader.h"

#include <algorithm>

namespace fluyt::oci::json {
namespace {

constexpr size_t kShownValueBytes = 80;

/// Builds the document while it is read, and stops at the first thing that we do not take.
class Builder {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(number_integer_t value) { return add(value); }
  bool number_unsigned(number_unsigned_t value) { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) { return add(value); }
  bool string(string_t& value) { return no_nul(value) && add(std::move(value)); }
  bool binary(binary_t& /*value*/) { return stop("binary value"); }
  bool start_object(std::size_t /*elements*/) { return open(Json::object()); }
  bool start_array(std::size_t /*elements*/) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(string_t& name) {
    if (!no_nul(name)) {
      return false;
    }
    auto [place, added] = open_.back()->get_ptr<Json::object_t*>()->try_emplace(name, nullptr);
    if (!added) {
      return stop(cat("the key ", quote(name), " stands twice in one object"));
    }
    slot_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*error*/) {
    return stop(cat("syntax error at byte ", position));
  }

  const std::string& why() const { return why_; }
  Json take() { return std::move(root_); }

 private:
  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_object()) {
      *slot_ = std::move(value);
      return slot_;
    }
    auto* elements = open_.back()->get_ptr<Json::array_t*>();
    elements->push_back(std::move(value));
    return &elements->back();
  }
  bool add(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (open_.size() == kMaxDepth) {
      return stop(cat("nested deeper than ", kMaxDepth));
    }
    // The pointer stays good: nothing is added to its parent before it is closed.
    open_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }
  bool no_nul(const string_t& text) {
    return text.find('\0') == string_t::npos || stop("a string holds a NUL character");
  }
  bool stop(std::string why) {
    why_ = std::move(why);
    return false;
  }

  Json root_;
  std::vector<Json*> open_;
  Json* slot_ = nullptr;
  std::string why_;
};

std::string shown(const Json& value) {
  if (const auto* text = value.get_ptr<const std::string*>(); text != nullptr) {
    return quote(*text, kShownValueBytes);
  }
  if (value.is_structured()) {
    return value.is_object() ? "{…}" : "[…]";
  }
  return value.dump();
}

}  // namespace

Result<Json> parse_text(std::string_view text, size_t max_bytes) {
  if (text.size() > max_bytes) {
    return Error(Code::kInvalidArgument,
                 cat("JSON text of ", text.size(), " bytes: expected at most ", max_bytes));
  }
  Builder builder;
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    return Error(Code::kInvalidArgument, cat("not valid JSON: ", builder.why()));
  }
  return builder.take();
}

std::string Node::path() const {
  if (kind_ == Kind::kRoot) {
    return "";
  }
  std::string before = parent_->path();
  switch (kind_) {
    case Kind::kIndex:
      return cat(before, "[", index_, "]");
    case Kind::kMapKey:
      return cat(before, "[", quote(key_, kShownValueBytes), "]");
    default:
      return cat(before, before.empty() ? "" : ".", key_);
  }
}

void Node::expected(std::string_view what) const {
  refuse(cat(shown(*value_), ": expected ", what));
}

void Node::refuse(std::string_view why) const {
  if (failed()) {
    return;
  }
  const std::string at = path();
  findings_->note(Error(Code::kInvalidArgument, cat(at, at.empty() ? "" : ": ", why)));
}

void read(const Node& node, bool& out) {
  if (const auto* value = node.value().get_ptr<const bool*>(); value != nullptr) {
    out = *value;
  } else {
    node.expected("true or false");
  }
}

void read(const Node& node, std::string& out) {
  if (const auto* value = node.value().get_ptr<const std::string*>(); value != nullptr) {
    out = *value;
  } else {
    node.expected("a string");
  }
}

namespace {

bool same_letters(std::string_view a, std::string_view b) {
  const auto small = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return small(x) == small(y); });
}

}  // namespace

const Json* Object::find(std::string_view key) const {
  const auto* members = node_->value().get_ptr<const Json::object_t*>();
  if (members == nullptr) {
    return nullptr;
  }
  auto it = members->find(key);
  if (it == members->end()) {
    // Runtimes written in Go, and so what is written for them, take keys in any case.
    it = std::find_if(members->begin(), members->end(),
                      [&](const auto& member) { return same_letters(member.first, key); });
  }
  return it == members->end() || it->second.is_null() ? nullptr : &it->second;
}

bool Object::one_of(std::string_view key, std::string& out,
                    std::span<const std::string_view> names) const {
  return with(key, [&](const Node& at) {
    read(at, out);
    if (!is_one_of(out, names)) {
      at.expected(one_of_text(names));
    }
  });
}

bool Object::some_of(std::string_view key, std::vector<std::string>& out,
                     std::span<const std::string_view> names) const {
  return list(key, out, [&](const Node& at, std::string& one) {
    read(at, one);
    if (!is_one_of(one, names)) {
      at.expected(one_of_text(names));
    }
  });
}

void Object::require(std::string_view key) const {
  if (!has(key)) {
    refuse(key, "missing");
  }
}

void Object::refuse(std::string_view key, std::string_view why) const {
  Node(node_->value(), *node_, Node::Kind::kField, key, 0).refuse(why);
}

std::string one_of_text(std::span<const std::string_view> names) {
  std::string text = "one of ";
  for (size_t i = 0; i < names.size(); ++i) {
    text += cat(i == 0 ? "" : ", ", names[i]);
  }
  return text;
}

bool is_one_of(std::string_view value, std::span<const std::string_view> names) {
  return std::find(names.begin(), names.end(), value) != names.end();
}

}  // namespace fluyt::oci::json
