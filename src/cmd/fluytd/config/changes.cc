#include "cmd/fluytd/config/changes.h"

#include <algorithm>

#include "base/strings.h"
#include "cmd/fluytd/config/keys.h"

namespace fluyt::daemon {

std::vector<Change> changes_between(const Settings& old, const Config& next) {
  std::vector<Change> changes;
  for (const Key& key : all_keys()) {
    const Value before = key.field.write(old);
    const Value after = key.field.write(next.settings);
    if (to_toml(before) == to_toml(after)) continue;
    changes.push_back({.key = key.name,
                       .from = to_toml(masked(before)),
                       .to = to_toml(masked(after)),
                       .place = place_of(next.said, key.name),
                       .by_restart = key.change == Key::Change::kByRestart});
  }
  return changes;
}

bool touches(const std::vector<Change>& changes, std::string_view key_or_table) {
  return std::any_of(changes.begin(), changes.end(), [&](const Change& change) {
    return !change.by_restart &&
           (change.key == key_or_table || change.key.starts_with(cat(key_or_table, ".")));
  });
}

void keep_fixed(const Settings& old, Settings& settings) {
  for (const Key& key : all_keys()) {
    if (key.change == Key::Change::kByRestart) key.field.copy(old, settings);
  }
}

}  // namespace fluyt::daemon
