#include "network/config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::network {

namespace {

using Json = nlohmann::json;

// 0.1 and 0.2 have another form of result and no chains.
constexpr std::array<std::string_view, 5> kVersions = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

Error bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

size_t rank_of(std::string_view version) {
  return static_cast<size_t>(std::find(kVersions.begin(), kVersions.end(), version) -
                             kVersions.begin());
}

Result<Json> parse_object(std::string_view text) {
  if (text.size() > kMaxConfigBytes) {
    return bad(cat("longer than ", kMaxConfigBytes, " bytes"));
  }
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return bad("not JSON");
  if (!json.is_object()) return bad(cat("a JSON object is expected, not ", json.type_name()));
  return json;
}

Result<std::optional<std::string>> find_text(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::optional<std::string>();
  if (!found->is_string()) return bad(cat(key, ": text is expected, not ", found->type_name()));
  return std::optional(found->get<std::string>());
}

// Written as text by some tools: the field's own library takes both.
Result<bool> flag(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return false;
  if (found->is_boolean()) return found->get<bool>();
  if (found->is_string()) {
    const std::string text = to_lower(found->get_ref<const std::string&>());
    if (text == "true") return true;
    if (text == "false") return false;
  }
  return bad(cat(key, ": true or false is expected, not ", quote(found->dump(), 64)));
}

bool is_alnum(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_network_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && is_alnum(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

bool is_program_name(std::string_view name) {
  return !name.empty() && name.size() <= 128 && name[0] != '.' && !has_control_characters(name) &&
         name.find_first_of("/\\") == std::string_view::npos;
}

Result<std::string> choose_version(const Json& object) {
  std::vector<std::string> named;
  if (auto one = FLUYT_TRY(find_text(object, "cniVersion"))) named.push_back(*one);
  if (const auto list = object.find("cniVersions"); list != object.end()) {
    if (!list->is_array())
      return bad(cat("cniVersions: a list is expected, not ", list->type_name()));
    for (const Json& item : *list) {
      if (!item.is_string()) return bad("cniVersions: text is expected in the list");
      named.push_back(item.get<std::string>());
    }
  }
  if (named.empty()) return bad("cniVersion: missing; one of 0.3.0 to 1.1.0 is expected");
  std::optional<size_t> best;
  for (const std::string& version : named) {
    const size_t rank = rank_of(version);
    if (rank < kVersions.size()) best = std::max(best.value_or(0), rank);
  }
  if (!best) {
    return bad(cat("cniVersion: ", quote(join(named, ", "), 64),
                   " is not one of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"));
  }
  return std::string(kVersions[*best]);
}

Result<PluginConfig> plugin_of(const Json& object) {
  if (!object.is_object()) return bad(cat("an object is expected, not ", object.type_name()));
  auto type = FLUYT_TRY(find_text(object, "type"));
  if (!type) return bad("type: missing");
  if (!is_program_name(*type)) {
    return bad(cat("type: ", quote(*type, 64), " is not a plain file name"));
  }
  if (const auto found = object.find("capabilities"); found != object.end()) {
    if (!found->is_object()) {
      return bad(cat("capabilities: an object is expected, not ", found->type_name()));
    }
  }
  return PluginConfig{.type = *type, .json = object.dump(), .built_in = false};
}

Result<> take_plugins(const Json& list, NetworkConfig& config) {
  if (!list.is_array()) return bad(cat("plugins: a list is expected, not ", list.type_name()));
  if (list.size() > kMaxPlugins) return bad(cat("plugins: more than ", kMaxPlugins));
  for (size_t i = 0; i < list.size(); ++i) {
    config.plugins.push_back(FLUYT_TRY_CONTEXT(plugin_of(list[i]), cat("plugins[", i, "]")));
  }
  return {};
}

// No exception of the library leaves this file.
template <class Function>
auto guarded(Function function) -> decltype(function()) {
  try {
    return function();
  } catch (const Json::exception& error) {
    return bad(error.what());
  }
}

Result<NetworkConfig> parse_checked(std::string_view text, Form form) {
  const Json json = FLUYT_TRY(parse_object(text));
  const auto plugins = json.find("plugins");
  const bool is_list = form == Form::kList || (form == Form::kEither && plugins != json.end());
  NetworkConfig config;
  auto name = FLUYT_TRY(find_text(json, "name"));
  if (!name) return bad("name: missing");
  if (!is_network_name(*name)) {
    return bad(cat("name: ", quote(*name, 64),
                   " is not a letter or digit followed by letters, digits, '_', '.' and '-'"));
  }
  config.name = *name;
  config.version = FLUYT_TRY(choose_version(json));
  if (!is_list) {
    config.only_inlined_plugins = true;
    config.plugins.push_back(FLUYT_TRY(plugin_of(json)));
    return config;
  }
  config.disable_check = FLUYT_TRY(flag(json, "disableCheck"));
  config.disable_gc = FLUYT_TRY(flag(json, "disableGC"));
  config.only_inlined_plugins = FLUYT_TRY(flag(json, "loadOnlyInlinedPlugins"));
  if (plugins != json.end()) {
    FLUYT_TRY(take_plugins(*plugins, config));
  } else if (config.only_inlined_plugins) {
    return bad("plugins: missing, while loadOnlyInlinedPlugins is true");
  }
  return config;
}

bool is_config_name(std::string_view name) {
  return name.ends_with(".conf") || name.ends_with(".conflist") || name.ends_with(".json");
}

Result<> append_from_folder(const std::string& folder, NetworkConfig& config) {
  auto names = sys::list_dir(folder);
  if (!names.ok() && names.error().code() == Code::kNotFound) return {};
  if (!names.ok()) return std::move(names).error();
  for (const std::string& name : *names) {
    if (!name.ends_with(".conf")) continue;
    const std::string path = cat(folder, "/", name);
    if (config.plugins.size() >= kMaxPlugins)
      return bad(cat("more than ", kMaxPlugins, " plugins"));
    const std::string text = FLUYT_TRY(sys::read_file(path, kMaxConfigBytes));
    config.plugins.push_back(FLUYT_TRY_CONTEXT(parse_plugin(text), quote(path, 512)));
  }
  return {};
}

Result<NetworkConfig> load_file(const std::string& folder, const std::string& name) {
  const std::string path = cat(folder, "/", name);
  const std::string text = FLUYT_TRY(sys::read_file(path, kMaxConfigBytes));
  NetworkConfig config = FLUYT_TRY(parse_config(text, form_of(name)));
  config.source = path;
  if (!config.only_inlined_plugins) {
    FLUYT_TRY(append_from_folder(cat(folder, "/", config.name), config));
  }
  if (config.plugins.empty()) return bad("plugins: none");
  return config;
}

void append_stat(const std::string& path, std::string& out) {
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0) return;
  out += cat(path, ' ', st.st_ino, ' ', st.st_size, ' ', st.st_mtim.tv_sec, '.', st.st_mtim.tv_nsec,
             ' ', st.st_ctim.tv_sec, '.', st.st_ctim.tv_nsec, '\n');
}

}  // namespace

Form form_of(std::string_view file_name) {
  if (file_name.ends_with(".conflist")) return Form::kList;
  return file_name.ends_with(".json") ? Form::kEither : Form::kPlugin;
}

Result<NetworkConfig> parse_config(std::string_view text, Form form) {
  return guarded([&] { return parse_checked(text, form); });
}

Result<PluginConfig> parse_plugin(std::string_view text) {
  return guarded([&]() -> Result<PluginConfig> {
    const Json json = FLUYT_TRY(parse_object(text));
    return plugin_of(json);
  });
}

Result<LoadedFolder> load_folder(const std::string& folder) {
  LoadedFolder loaded;
  const auto names = FLUYT_TRY(sys::list_dir(folder));
  size_t seen = 0;
  for (const std::string& name : names) {
    if (!is_config_name(name)) continue;
    if (++seen > kMaxConfigFiles) {
      loaded.broken.push_back(
          {folder, cat("more than ", kMaxConfigFiles, " files: the rest is not read")});
      break;
    }
    auto config = load_file(folder, name);
    if (config.ok()) {
      loaded.networks.push_back(std::move(config).value());
    } else {
      loaded.broken.push_back({cat(folder, "/", name), config.error().message()});
    }
  }
  return loaded;
}

std::string fingerprint_of(const std::string& folder) {
  std::string out;
  append_stat(folder, out);
  const auto names = sys::list_dir(folder);
  if (!names.ok()) return out;
  for (const std::string& name : *names) {
    const std::string path = cat(folder, "/", name);
    append_stat(path, out);
    if (is_config_name(name)) continue;
    const auto inner = sys::list_dir(path);
    if (!inner.ok()) continue;  // a file of another kind
    for (const std::string& file : *inner) append_stat(cat(path, "/", file), out);
  }
  return out;
}

bool version_before(std::string_view a, std::string_view b) { return rank_of(a) < rank_of(b); }

}  // namespace fluyt::network
