#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace fluyt::daemon {

/// Where something was said: a line of a file, or a flag of the command line.
struct Place {
  std::string file;  // or "--root"; empty: nobody said it, it is a default
  size_t line = 0;   // 0: of a flag
  std::string text() const;
};

/// What a configuration says, whoever reads the syntax: TOML's values, each with its place.
struct Value {
  using List = std::vector<Value>;
  using Table = std::map<std::string, Value, std::less<>>;
  struct Other {  // dates and times, which no key of ours takes
    std::string text;
  };
  std::variant<Table, List, std::string, int64_t, double, bool, Other> data;
  Place place;  // of its key, or of the item in a list

  const Table* table() const { return std::get_if<Table>(&data); }
  Table* table() { return std::get_if<Table>(&data); }
  const List* list() const { return std::get_if<List>(&data); }
  List* list() { return std::get_if<List>(&data); }
  const std::string* text() const { return std::get_if<std::string>(&data); }
};

/// As TOML on one line: tables and lists inline.
std::string to_toml(const Value& value);
/// The same without what nobody is to read: passwords and tokens.
Value masked(const Value& value);
/// Whether what stands at this key is not for eyes: its last word is a password's or a token's.
bool is_secret(std::string_view name);
/// A key as TOML writes it: bare, or quoted where it has to be.
std::string key_text(std::string_view key);

}  // namespace fluyt::daemon
