#include "cmd/fluytd/config/load.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluytd/config/keys.h"
#include "cmd/fluytd/config/programs.h"
#include "cmd/fluytd/config/suggest.h"
#include "cmd/fluytd/config/toml_file.h"
#include "engine/cgroup_parent.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

constexpr size_t kMaxDropIns = 1000;
constexpr std::string_view kDropInFolder = "conf.d";

using Known = std::map<std::string, Key, std::less<>>;

bool has_keys_below(const Known& known, const std::string& name) {
  const auto below = known.lower_bound(name + ".");
  return below != known.end() && below->first.starts_with(name + ".");
}

void say_unknown(const Reading& reading, const Known& known) {
  std::vector<std::string> names;
  for (const auto& [name, key] : known) names.push_back(name);
  const std::string meant = nearest(reading.name(), names);
  reading.wrong(cat("there is no such key",
                    meant.empty() ? std::string() : cat(": did you mean ", quote(meant), "?")));
}

/// Walks the tables, so that a key is looked up by its whole name.
void apply_below(const std::string& prefix, const Value::Table& table, const Known& known,
                 Settings& settings, Problems& problems) {
  for (const auto& [word, value] : table) {
    const std::string name = prefix + word;
    const Reading reading(value, name, problems);
    const auto key = known.find(name);
    if (key != known.end()) {
      key->second.field.read(reading, settings);
    } else if (!has_keys_below(known, name)) {
      say_unknown(reading, known);
    } else if (value.table() == nullptr) {
      reading.expected("a table");
    } else {
      apply_below(name + ".", *value.table(), known, settings, problems);
    }
  }
}

/// Parents that have not the form of the driver.
std::vector<Error> check_cgroups(const Settings& settings) {
  std::vector<Error> wrong;
  for (const auto& [key, parent] : {std::pair{"cgroup.parent", &settings.cgroup_parent},
                                    {"cgroup.monitors", &settings.monitor_cgroup_parent}}) {
    if (parent->empty()) continue;
    auto checked = engine::check_cgroup_parent(settings.cgroup_driver, *parent);
    if (!checked.ok()) wrong.push_back(std::move(checked).error().add_context(key));
  }
  return wrong;
}

/// An error whose sentence begins with the key that it is about, put at that key's place.
void say_at_key(const Error& error, const Value& said, Problems& problems) {
  const std::string& text = error.message();
  const size_t end = std::min(text.find(": "), text.size());
  const std::string key = text.substr(0, end);
  const Place place = place_of(said, key);
  const std::string fact = text.substr(std::min(end + 2, text.size()));
  if (place.file.empty()) {
    problems.push_back({.place = place, .key = {}, .value = {}, .fact = text});
  } else {
    problems.push_back({.place = place, .key = key, .value = {}, .fact = fact});
  }
}

void say_of_file(const std::string& path, const Error& error, Problems& problems) {
  const std::string& text = error.message();
  // Most errors about a file name it; an error of the syntax begins with it and its line.
  const bool names_it = text.find(path) != std::string::npos;
  problems.push_back({.place = {.file = path, .line = 0}, .key = {}, .value = {}, .fact = text});
  if (names_it && text.starts_with(path)) {
    Problem& problem = problems.back();
    const size_t end = text.find(": ");
    const auto line =
        parse_number<size_t>(std::string_view(text).substr(path.size() + 1, end - path.size() - 1));
    if (line) {
      problem.place.line = *line;
      problem.fact = text.substr(end + 2);
    }
  }
}

/// Files in the order in which they are read.
std::vector<std::string> files_of(const Invocation& invocation, Problems& problems) {
  const bool is_named = !invocation.config_file.empty();
  const std::string file = is_named ? invocation.config_file : kDefaultConfigFile;
  std::vector<std::string> files;
  if (is_named || sys::exists(file)) files.push_back(file);
  const size_t slash = file.rfind('/');
  const std::string folder =
      cat(slash == std::string::npos ? "" : file.substr(0, slash + 1), kDropInFolder);
  const auto names = sys::list_dir(folder);
  if (!names.ok()) {
    if (names.error().code() != Code::kNotFound) say_of_file(folder, names.error(), problems);
    return files;
  }
  for (const std::string& name : *names) {
    if (!name.ends_with(".toml") || name.starts_with('.')) continue;
    if (files.size() > kMaxDropIns) {
      problems.push_back({.place = {.file = folder, .line = 0},
                          .key = {},
                          .value = {},
                          .fact = cat("expected at most ", kMaxDropIns, " files")});
      break;
    }
    files.push_back(folder + "/" + name);
  }
  return files;
}

}  // namespace

void apply(const Value& said, Settings& settings, Problems& problems) {
  Known known;
  for (Key& key : all_keys()) {
    const std::string name = key.name;
    known.emplace(name, std::move(key));
  }
  apply_below("", *said.table(), known, settings, problems);
}

Loaded load(const Invocation& invocation) {
  Loaded loaded;
  Config& config = loaded.config;
  config.said = {.data = Value::Table{}, .place = {}};
  config.loaded_at = now_unix_ns();
  config.files = files_of(invocation, loaded.problems);
  for (const std::string& path : config.files) {
    auto file = read_toml(path);
    if (file.ok()) {
      merge(config.said, std::move(*file));
    } else {
      say_of_file(path, file.error(), loaded.problems);
    }
  }
  merge(config.said, invocation.flags);
  apply(config.said, config.settings, loaded.problems);
  if (const auto checked = streaming::check_options(config.settings.streaming); !checked.ok()) {
    say_at_key(checked.error(), config.said, loaded.problems);
  }
  if (const auto checked = check_log_options(config.settings.log); !checked.ok()) {
    say_at_key(checked.error(), config.said, loaded.problems);
  }
  for (const Error& error : check_cgroups(config.settings)) {
    say_at_key(error, config.said, loaded.problems);
  }
  for (const Error& error : find_programs(config.settings)) {
    say_at_key(error, config.said, loaded.problems);
  }
  // By file and line, as somebody goes through them.
  std::stable_sort(
      loaded.problems.begin(), loaded.problems.end(), [](const Problem& a, const Problem& b) {
        return std::tie(a.place.file, a.place.line) < std::tie(b.place.file, b.place.line);
      });
  return loaded;
}

Result<Config> load_config(const Invocation& invocation) {
  Loaded loaded = load(invocation);
  if (loaded.problems.empty()) return std::move(loaded.config);
  return Error(Code::kInvalidArgument, summary(loaded.problems));
}

}  // namespace fluyt::daemon
