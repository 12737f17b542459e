#include "network/builtin/tuning_config.h"

#include <algorithm>
#include <utility>

#include "base/strings.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "sys/file.h"

namespace fluyt::network::builtin {

namespace {

constexpr const char* kDefaultFolder = "/run/cni/tuning";
constexpr const char* kAllowList = "/etc/cni/tuning/allowlist.conf";
constexpr size_t kMaxSysctls = 256;
constexpr size_t kMaxKept = 4096;

// "net.ipv4.conf.eth0/1.forwarding" or "net/ipv4/conf/eth0.1/forwarding": whichever separator comes
// first is the one, and the other stands for a dot or slash in a name. Only what belongs to a
// network namespace: the rest of the tree is the host's.
Result<std::string> file_of(const std::string& key) {
  std::string path = key;
  const size_t first = key.find_first_of("./");
  if (first != std::string::npos && key[first] == '.') {
    for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  }
  bool good = path.starts_with("net/") && !has_control_characters(path);
  for (const std::string_view part : split(path, '/')) {
    good = good && !part.empty() && part != "." && part != "..";
  }
  if (!good) {
    return wrong_field("sysctl", Json(key), "a name below net, as in net.ipv4.ip_forward,");
  }
  return path.substr(4);
}

Result<std::optional<bool>> find_flag(const Json& object, const char* field) {
  if (object.value(field, Json()).is_null()) return std::optional<bool>();
  return std::optional(FLUYT_TRY(flag_of(object, field)));
}

Result<std::optional<uint32_t>> find_number(const Json& object, const char* field, int64_t most) {
  const int64_t number = FLUYT_TRY(number_of(object, field, 0, most, 0));
  if (number == 0) return std::optional<uint32_t>();
  return std::optional(static_cast<uint32_t>(number));
}

Result<DeviceTuning> device_tuning(const Json& object) {
  DeviceTuning out;
  out.mac = FLUYT_TRY(mac_of(object, "mac"));
  out.promiscuous = FLUYT_TRY(find_flag(object, "promisc"));
  out.all_multicast = FLUYT_TRY(find_flag(object, "allmulti"));
  out.mtu = FLUYT_TRY(find_number(object, "mtu", 65535));
  out.queue_length = FLUYT_TRY(find_number(object, "txQLen", INT32_MAX));
  return out;
}

std::string kept_file(const TuningConfig& config, const Call& call) {
  return cat(config.folder, "/", call.container_id, "_", call.device, ".json");
}

}  // namespace

std::string tuning_why_not(const Json& config) {
  std::vector<std::string> out =
      unknown_keys(config, {"sysctl", "mac", "promisc", "mtu", "allmulti", "txQLen", "dataDir"});
  // Its lines are regular expressions in Go's form.
  if (sys::exists(kAllowList)) out.emplace_back(kAllowList);
  return join(out, ", ");
}

Result<TuningConfig> parse_tuning(const Json& request, const std::string& device) {
  TuningConfig config;
  config.device = FLUYT_TRY(device_tuning(request));
  if (config.device.promiscuous == false) config.device.promiscuous.reset();
  config.folder = FLUYT_TRY(text_of(request, "dataDir"));
  if (config.folder.empty()) config.folder = kDefaultFolder;
  if (!config.folder.starts_with('/')) {
    return wrong_field("dataDir", Json(config.folder), "an absolute path");
  }
  const Json sysctls = request.value("sysctl", Json::object());
  if (sysctls.is_null()) return config;
  if (!sysctls.is_object() || sysctls.size() > kMaxSysctls) {
    return wrong_field("sysctl", sysctls, cat("an object of at most ", kMaxSysctls));
  }
  for (const auto& [key, value] : sysctls.items()) {
    if (!value.is_string()) return wrong_field(cat("sysctl.", key), value, "text");
    auto file = FLUYT_TRY(file_of(replaced(key, "IFNAME", device)));
    config.sysctls.push_back(
        {.key = key, .file = std::move(file), .value = value.get<std::string>()});
  }
  return config;
}

Result<> keep(const TuningConfig& config, const Call& call, const DeviceTuning& before) {
  Json json = Json::object();
  if (!before.mac.empty()) json["mac"] = mac_text(before.mac);
  if (before.promiscuous) json["promisc"] = *before.promiscuous;
  if (before.mtu) json["mtu"] = *before.mtu;
  if (before.all_multicast) json["allmulti"] = *before.all_multicast;
  if (before.queue_length) json["txQLen"] = *before.queue_length;
  FLUYT_TRY_CONTEXT(sys::make_dirs(config.folder, 0700), "dataDir");
  FLUYT_TRY_CONTEXT(sys::write_file_atomic(sys::kCwd, kept_file(config, call), json.dump(), 0600),
                    "dataDir");
  return {};
}

Result<std::optional<DeviceTuning>> find_kept(const TuningConfig& config, const Call& call) {
  auto text = sys::read_file(kept_file(config, call), kMaxKept);
  if (!text.ok() && text.error().code() == Code::kNotFound) return std::optional<DeviceTuning>();
  if (!text.ok()) return std::move(text).error();
  const Json json = Json::parse(*text, nullptr, false);
  // One that is broken is of no use, and must not keep the sandbox.
  if (!json.is_object()) return std::optional(DeviceTuning());
  return std::optional(device_tuning(json).value_or(DeviceTuning()));
}

Result<> forget_kept(const TuningConfig& config, const Call& call) {
  return sys::remove_file(sys::kCwd, kept_file(config, call));
}

}  // namespace fluyt::network::builtin
