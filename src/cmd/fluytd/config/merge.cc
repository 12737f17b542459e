#include <algorithm>
#include <set>

#include "cmd/fluytd/config/keys.h"
#include "cmd/fluytd/config/load.h"

namespace fluyt::daemon {
namespace {

std::string match_of(const Value& entry) {
  const Value::Table* table = entry.table();
  const auto match = table == nullptr ? Value::Table::const_iterator() : table->find("match");
  if (table == nullptr || match == table->end() || match->second.text() == nullptr) return {};
  return *match->second.text();
}

void append(Value::List& into, Value::List over) {
  std::set<std::string> replaced;
  for (const Value& entry : over) replaced.insert(match_of(entry));
  replaced.erase("");
  std::erase_if(into, [&](const Value& entry) { return replaced.contains(match_of(entry)); });
  for (Value& entry : over) into.push_back(std::move(entry));
}

void merge_below(Value& into, Value over, const std::string& name,
                 const std::set<std::string>& appended) {
  if (into.table() != nullptr && over.table() != nullptr) {
    into.place = over.place;
    for (auto& [key, value] : *over.table()) {
      const auto [there, is_new] = into.table()->emplace(key, value);
      if (is_new) continue;
      merge_below(there->second, std::move(value), name.empty() ? key : name + "." + key, appended);
    }
  } else if (into.list() != nullptr && over.list() != nullptr && appended.contains(name)) {
    into.place = over.place;
    append(*into.list(), std::move(*over.list()));
  } else {
    into = std::move(over);
  }
}

}  // namespace

void merge(Value& into, Value over) {
  std::set<std::string> appended;
  for (const Key& key : all_keys()) {
    if (key.merge == Key::Merge::kAppend) appended.insert(key.name);
  }
  merge_below(into, std::move(over), "", appended);
}

Place place_of(const Value& said, std::string_view key) {
  const Value* at = &said;
  while (!key.empty()) {
    const Value::Table* table = at->table();
    if (table == nullptr) return {};
    const size_t dot = std::min(key.find('.'), key.size());
    const auto found = table->find(key.substr(0, dot));
    if (found == table->end()) return {};
    at = &found->second;
    key.remove_prefix(std::min(dot + 1, key.size()));
  }
  return at->place;
}

}  // namespace fluyt::daemon
