#include "cmd/fluytd/config/print.h"

#include "base/strings.h"
#include "cmd/fluytd/config/keys.h"

namespace fluyt::daemon {
namespace {

struct Name {
  std::string table;  // "" for the top
  std::string word;
};

Name split_name(const std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return {.table = {}, .word = name};
  return {.table = name.substr(0, dot), .word = name.substr(dot + 1)};
}

/// The header of a key's table where it is not the one before's.
std::string header(const Name& name, std::string& table) {
  if (name.table == table) return {};
  table = name.table;
  return cat("\n[", table, "]\n");
}

bool is_nothing(const Value& value) {
  const auto* text = value.text();
  const auto* table = value.table();
  return (text != nullptr && text->empty()) || (table != nullptr && table->empty());
}

std::string comment(const std::string& doc) {
  std::string out;
  for (const std::string_view line : split(doc, '\n')) out += cat("# ", line, "\n");
  return out;
}

const Value* find(const Value& said, std::string_view name) {
  const Value* at = &said;
  for (const std::string_view word : split(name, '.')) {
    const Value::Table* table = at->table();
    if (table == nullptr) return nullptr;
    const auto found = table->find(word);
    if (found == table->end()) return nullptr;
    at = &found->second;
  }
  return at;
}

/// A line for each entry, for they may come from several files.
std::string entries(const std::string& name, const Value& value) {
  std::string out;
  if (const Value::List* list = value.list()) {
    for (const Value& item : *list) {
      out += cat("\n[[", name, "]]  # ", item.place.text(), "\n");
      for (const auto& [key, member] : *item.table()) {
        out += cat(key_text(key), " = ", to_toml(member), "  # ", member.place.text(), "\n");
      }
    }
    return out;
  }
  for (const auto& [key, entry] : *value.table()) {
    if (const Value::Table* members = entry.table()) {
      out += cat("\n[", name, ".", key_text(key), "]  # ", entry.place.text(), "\n");
      for (const auto& [word, member] : *members) {
        out += cat(key_text(word), " = ", to_toml(member), "  # ", member.place.text(), "\n");
      }
    } else {
      if (out.empty()) out = cat("\n[", name, "]\n");
      out += cat(key_text(key), " = ", to_toml(entry), "  # ", entry.place.text(), "\n");
    }
  }
  return out;
}

bool has_entries(const Value& value) {
  if (value.table() != nullptr) return true;
  const Value::List* list = value.list();
  return list != nullptr && !list->empty() && list->front().table() != nullptr;
}

}  // namespace

std::string default_config() {
  const Settings defaults;
  std::string out =
      "# fluytd's configuration: every key, with its default. Where there is none, a comment has "
      "an\n"
      "# example. A SIGHUP puts changes in force, but for the keys that say otherwise.\n\n";
  std::string table;
  bool is_first = true;
  for (const Key& key : all_keys()) {
    const Name name = split_name(key.name);
    const std::string head = header(name, table);
    out += head.empty() && !is_first ? "\n" : head;
    is_first = false;
    out += comment(key.doc);
    if (key.change == Key::Change::kByRestart) out += "# Changed by a restart alone.\n";
    // Prose has a space behind its '#'; an example has none.
    out += key.example.empty() ? cat(name.word, " = ", to_toml(key.field.write(defaults)), "\n")
                               : cat("#", name.word, " = ", key.example, "\n");
  }
  return out;
}

std::string dump(const Config& config) {
  std::string out;
  for (const std::string& file : config.files) out += cat("# read: ", file, "\n");
  const Value said = masked(config.said);
  std::string table;
  std::string behind;  // tables of entries, which end the one that they stand in
  for (const Key& key : all_keys()) {
    const Name name = split_name(key.name);
    const Value* value = find(said, key.name);
    if (value != nullptr && has_entries(*value)) {
      behind += entries(key.name, *value);
      continue;
    }
    const Value in_force = value != nullptr ? *value : key.field.write(config.settings);
    if (value == nullptr && is_nothing(in_force)) continue;
    out += header(name, table);
    out += cat(name.word, " = ", to_toml(in_force), "  # ", in_force.place.text(), "\n");
  }
  return out + behind;
}

}  // namespace fluyt::daemon
