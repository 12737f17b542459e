#include "network/cache.h"

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "network/result.h"
#include "sys/file.h"

namespace fluyt::network {

namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
constexpr size_t kMaxRecordBytes = 2 * kMaxPluginOutput + kMaxPlugins * kMaxConfigBytes;

Json plugins_to_json(const std::vector<PluginConfig>& plugins) {
  Json list = Json::array();
  for (const PluginConfig& plugin : plugins)
    list.push_back({{"type", plugin.type}, {"json", plugin.json}, {"builtIn", plugin.built_in}});
  return list;
}

Record decode_checked(const Json& json) {
  Record record;
  record.state =
      json.at("attached").get<bool>() ? Record::State::kAttached : Record::State::kAdding;
  const Json& network = json.at("network");
  record.network.name = network.at("name");
  record.network.version = network.at("version");
  record.network.disable_check = network.at("disableCheck");
  record.network.disable_gc = network.value("disableGC", false);
  record.network.only_inlined_plugins = network.at("onlyInlined");
  record.network.source = network.at("source");
  for (const Json& plugin : network.at("plugins")) {
    // Records of before there were any say nothing: programs did it.
    record.network.plugins.push_back({.type = plugin.at("type"),
                                      .json = plugin.at("json"),
                                      .built_in = plugin.value("builtIn", false)});
  }
  const Json& args = json.at("args");
  record.args.container_id = args.at("containerId");
  record.args.netns = args.at("netns");
  record.args.interface = args.at("interface");
  record.args.cni_args = args.at("cniArgs");
  record.args.capabilities_json = args.at("capabilities");
  record.result = json.at("result");
  return record;
}

}  // namespace

// Plugin objects, capabilities and results stay text within the JSON: plugins get back, byte for
// byte, what they were given.
std::string encode_record(const Record& record) {
  const Json json = {
      {"format", kFormat},
      {"attached", record.state == Record::State::kAttached},
      {"network",
       {{"name", record.network.name},
        {"version", record.network.version},
        {"disableCheck", record.network.disable_check},
        {"disableGC", record.network.disable_gc},
        {"onlyInlined", record.network.only_inlined_plugins},
        {"source", record.network.source},
        {"plugins", plugins_to_json(record.network.plugins)}}},
      {"args",
       {{"containerId", record.args.container_id},
        {"netns", record.args.netns},
        {"interface", record.args.interface},
        {"cniArgs", record.args.cni_args},
        {"capabilities", record.args.capabilities_json}}},
      {"result", record.result},
  };
  // A path or name that is not UTF-8 must not lose us the record.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Record> decode_record(std::string_view text) {
  try {
    const Json json = Json::parse(text);
    if (json.at("format") != kFormat) {
      return Error(Code::kDataLoss, cat("format: ", kFormat, " is expected"));
    }
    return decode_checked(json);
  } catch (const Json::exception& error) {
    return Error(Code::kDataLoss, quote(error.what(), 128));
  }
}

Result<Cache> Cache::open(const std::string& folder) {
  FLUYT_TRY_CONTEXT(sys::make_dirs(folder, 0700), "network cache");
  return Cache(folder);
}

std::string Cache::file_of(const std::string& sandbox_id) const {
  return cat(folder_, "/", sandbox_id, ".json");
}

Result<std::optional<Record>> Cache::find(const std::string& sandbox_id) const {
  const std::string path = file_of(sandbox_id);
  auto text = sys::read_file(path, kMaxRecordBytes);
  if (!text.ok() && text.error().code() == Code::kNotFound) return std::optional<Record>();
  if (!text.ok()) return std::move(text).error();
  return std::optional(FLUYT_TRY_CONTEXT(decode_record(*text), quote(path, 512)));
}

Result<std::vector<std::string>> Cache::list() const {
  std::vector<std::string> out;
  for (const std::string& name : FLUYT_TRY(sys::list_dir(folder_))) {
    constexpr std::string_view kSuffix = ".json";
    if (name.starts_with('.') || !name.ends_with(kSuffix)) continue;
    out.push_back(name.substr(0, name.size() - kSuffix.size()));
  }
  return out;
}

// Not synced: a crash of ours loses nothing, and a power cut ends the sandbox that it is about.
Result<> Cache::put(const Record& record) const {
  return sys::write_file_atomic(sys::kCwd, file_of(record.args.container_id), encode_record(record),
                                0600);
}

Result<> Cache::remove(const std::string& sandbox_id) const {
  return sys::remove_file(sys::kCwd, file_of(sandbox_id));
}

}  // namespace fluyt::network
