#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "cmd/fluytd/config/reading.h"
#include "cmd/fluytd/config/settings.h"
#include "cmd/fluytd/config/value.h"

namespace fluyt::daemon {

inline constexpr const char* kDefaultConfigFile = "/etc/fluyt/fluytd.toml";

/// What the command line says of the configuration.
struct Invocation {
  std::string config_file;  // of --config; empty: kDefaultConfigFile, where it is there
  Value flags = {.data = Value::Table{}, .place = {}};  // as a file would say it; they win
};

/// A configuration as it was read: defaults, under the file, under conf.d/*.toml beside the file in
/// the order of names, under the flags.
struct Config {
  Settings settings;
  Value said;                      // merged, each value with its place
  std::vector<std::string> files;  // in the order in which they were read
  int64_t loaded_at = 0;           // unix ns
};

struct Loaded {
  Config config;
  Problems problems;  // not empty: `config` is not to be used
};

/// Reads and checks everything, and finds the helper programs. Says all that is wrong, not the
/// first thing alone.
Loaded load(const Invocation& invocation);
/// The same, with what is wrong as one kInvalidArgument.
Result<Config> load_config(const Invocation& invocation);

/// `over` on top of `into`: tables by their members, lists and plain values replaced, but for what
/// a key's `merge` says.
void merge(Value& into, Value over);
/// Reads what was said over the settings.
void apply(const Value& said, Settings& settings, Problems& problems);
/// Where the value of this key came from; of a table or list of entries the first one's place.
Place place_of(const Value& said, std::string_view key);

}  // namespace fluyt::daemon
