#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// Network configurations as values: what an administrator wrote, checked.
namespace fluyt::network {

inline constexpr size_t kMaxConfigBytes = 1U << 20U;
inline constexpr size_t kMaxPlugins = 64;
inline constexpr size_t kMaxConfigFiles = 256;

struct PluginConfig {
  std::string type;       // the program's name: a plain file name
  std::string json;       // the whole object, as compact JSON
  bool built_in = false;  // done in this process, by ADD and hence by CHECK and DEL
  bool operator==(const PluginConfig&) const = default;
};

struct NetworkConfig {
  std::string name;
  std::string version;  // the highest of those it names that we speak
  bool disable_check = false;
  bool disable_gc = false;
  bool only_inlined_plugins = false;
  std::vector<PluginConfig> plugins;
  std::string source;  // the file, for messages
  bool operator==(const NetworkConfig&) const = default;
};

/// What a file holds: a list (.conflist) or one plugin (.conf), which becomes a list of one. A
/// .json file may be either: it is a list when it has "plugins".
enum class Form { kList, kPlugin, kEither };
Form form_of(std::string_view file_name);

/// Errors name the field. A list may come out without plugins when it leaves them to its folder.
Result<NetworkConfig> parse_config(std::string_view text, Form form);
/// One plugin object from a list's folder. Errors name the field.
Result<PluginConfig> parse_plugin(std::string_view text);

struct BrokenFile {
  std::string path;
  std::string reason;
  bool operator==(const BrokenFile&) const = default;
};
struct LoadedFolder {
  std::vector<NetworkConfig> networks;  // by file name; the first one is the network
  std::vector<BrokenFile> broken;
};
/// Reads `folder`: *.conf, *.conflist and *.json by name, and plugins from `folder/<name>/*.conf`
/// for lists that allow it. One bad file never hides a good one. A folder that is not there is
/// kNotFound.
Result<LoadedFolder> load_folder(const std::string& folder);

/// Changes when a file in the folder (or in a folder of it) is added, removed, replaced or written.
std::string fingerprint_of(const std::string& folder);

/// "0.4.0" < "1.0.0"; both must be versions that we speak.
bool version_before(std::string_view a, std::string_view b);

}  // namespace fluyt::network
