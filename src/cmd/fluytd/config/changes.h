#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cmd/fluytd/config/load.h"

namespace fluyt::daemon {

/// A key whose value another configuration changes.
struct Change {
  std::string key;
  std::string from;  // as TOML, without secrets
  std::string to;
  Place place;  // where the new value is said; of a default nowhere
  bool by_restart = false;
};

/// In the order of the keys.
std::vector<Change> changes_between(const Settings& old, const Config& next);
/// Whether one of them is of this key or below this table.
bool touches(const std::vector<Change>& changes, std::string_view key_or_table);
/// Gives `settings` the values that a restart alone changes.
void keep_fixed(const Settings& old, Settings& settings);

}  // namespace fluyt::daemon
