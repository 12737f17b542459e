#include "cmd/fluytd/config/value.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/strings.h"

namespace fluyt::daemon {
namespace {

constexpr std::string_view kMask = "(secret)";
constexpr std::array<std::string_view, 3> kSecretWords = {"password", "identity_token",
                                                          "registry_token"};

std::string string_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += cat('\\', c);
    } else if (byte < 0x20 || byte == 0x7f) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\u%04x", byte);
      out += escape.data();
    } else {
      out += c;
    }
  }
  return out + '"';
}

struct Writer {
  std::string operator()(const Value::Table& table) const {
    if (table.empty()) return "{}";
    std::vector<std::string> members;
    members.reserve(table.size());
    for (const auto& [key, value] : table) {
      members.push_back(cat(key_text(key), " = ", to_toml(value)));
    }
    return cat("{ ", join(members, ", "), " }");
  }
  std::string operator()(const Value::List& list) const {
    std::vector<std::string> items;
    items.reserve(list.size());
    for (const Value& item : list) items.push_back(to_toml(item));
    return cat("[", join(items, ", "), "]");
  }
  std::string operator()(const std::string& text) const { return string_text(text); }
  std::string operator()(int64_t number) const { return std::to_string(number); }
  std::string operator()(double number) const { return std::to_string(number); }
  std::string operator()(bool flag) const { return flag ? "true" : "false"; }
  std::string operator()(const Value::Other& other) const { return other.text; }
};

}  // namespace

std::string Place::text() const {
  if (file.empty()) return "default";
  return line == 0 ? file : cat(file, ":", line);
}

std::string key_text(std::string_view key) {
  const bool is_bare = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
  return is_bare ? std::string(key) : string_text(key);
}

std::string to_toml(const Value& value) { return std::visit(Writer{}, value.data); }

bool is_secret(std::string_view name) {
  const std::string_view last = name.substr(name.rfind('.') + 1);
  return std::find(kSecretWords.begin(), kSecretWords.end(), last) != kSecretWords.end();
}

Value masked(const Value& value) {
  Value out = value;
  if (Value::List* list = out.list()) {
    for (Value& item : *list) item = masked(item);
  } else if (Value::Table* table = out.table()) {
    for (auto& [key, member] : *table) {
      if (is_secret(key)) {
        member.data = std::string(kMask);
      } else {
        member = masked(member);
      }
    }
  }
  return out;
}

}  // namespace fluyt::daemon
