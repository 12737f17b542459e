#include <algorithm>

#include "base/strings.h"
#include "network/builtin/device_check.h"
#include "network/builtin/plugins.h"
#include "network/builtin/result_form.h"
#include "network/builtin/sandbox_device.h"
#include "network/builtin/tuning_config.h"
#include "sys/file.h"

/// Settings of a device that another plugin has made, and of its sandbox's network.
namespace fluyt::network::builtin {

namespace {

using sys::Switch;

Result<> apply(sys::Netlink& pod, int index, const DeviceTuning& tuning) {
  const auto to = [](bool on) { return on ? Switch::kOn : Switch::kOff; };
  if (!tuning.mac.empty()) FLUYT_TRY_CONTEXT(pod.set_mac(index, tuning.mac), "mac");
  if (tuning.promiscuous) {
    FLUYT_TRY_CONTEXT(pod.set_promiscuous(index, to(*tuning.promiscuous)), "promisc");
  }
  if (tuning.mtu) FLUYT_TRY_CONTEXT(pod.set_mtu(index, *tuning.mtu), "mtu");
  if (tuning.all_multicast) {
    FLUYT_TRY_CONTEXT(pod.set_all_multicast(index, to(*tuning.all_multicast)), "allmulti");
  }
  if (tuning.queue_length) {
    FLUYT_TRY_CONTEXT(pod.set_queue_length(index, *tuning.queue_length), "txQLen");
  }
  return {};
}

// Several numbers are read back with tabs between them.
std::string one_line(std::string_view text) {
  std::string out(trim(text));
  std::replace_if(out.begin(), out.end(), [](char c) { return c == '\t' || c == '\n'; }, ' ');
  return out;
}

// Of what the tuning changes, how it is now.
DeviceTuning present(const sys::LinkDetails& device, const DeviceTuning& tuning) {
  DeviceTuning out;
  if (!tuning.mac.empty()) out.mac = device.mac;
  if (tuning.promiscuous) out.promiscuous = device.promiscuous;
  if (tuning.mtu) out.mtu = device.mtu;
  if (tuning.all_multicast) out.all_multicast = device.all_multicast;
  if (tuning.queue_length) out.queue_length = device.queue_length;
  return out;
}

}  // namespace

Result<Json> tuning_add(const Call& call) {
  const TuningConfig config = FLUYT_TRY(parse_tuning(call.request, call.device));
  Json result = FLUYT_TRY(previous_result(call));
  FLUYT_TRY(in_sandbox(call, [&](sys::Netlink& pod) -> Result<> {
    for (const auto& [key, file, value] : config.sysctls) {
      FLUYT_TRY_CONTEXT(write_sysctl(file, value), cat("sysctl ", quote(key, 128)));
    }
    if (config.device == DeviceTuning()) return {};
    const sys::LinkDetails device = FLUYT_TRY(get_device(pod, call.device));
    FLUYT_TRY(keep(config, call, present(device, config.device)));
    return apply(pod, device.index, config.device);
  }));
  if (config.device.mac.empty()) return result;
  const auto interfaces = result.find("interfaces");
  if (interfaces == result.end() || !interfaces->is_array()) return result;
  for (Json& interface : *interfaces) {
    const bool ours =
        interface.value("name", "") == call.device && interface.value("sandbox", "") == call.netns;
    if (ours) interface["mac"] = mac_text(config.device.mac);
  }
  return result;
}

Result<> tuning_check(const Call& call) {
  const TuningConfig config = FLUYT_TRY(parse_tuning(call.request, call.device));
  return in_sandbox(call, [&](sys::Netlink& pod) -> Result<> {
    for (const auto& [key, file, value] : config.sysctls) {
      const std::string text =
          FLUYT_TRY_CONTEXT(sys::read_file(cat("/proc/sys/net/", file), 4096), key);
      if (one_line(text) != one_line(value)) {
        return differs(cat("sysctl ", quote(key, 128), " is ", quote(trim(text), 64), ", not ",
                           quote(value, 64)));
      }
    }
    if (config.device == DeviceTuning()) return {};
    const sys::LinkDetails device = FLUYT_TRY(get_device(pod, call.device));
    if (present(device, config.device) == config.device) return {};
    return differs(
        cat("device ", call.device, ": mac, promisc, mtu, allmulti or txQLen is not what was set"));
  });
}

// A device that outlives its sandbox gets back what it had. One that is gone needs nothing.
Result<> tuning_remove(const Call& call) {
  const TuningConfig config = FLUYT_TRY(parse_tuning(call.request, call.device));
  const auto before = FLUYT_TRY(find_kept(config, call));
  if (!before) return {};
  if (!call.netns.empty()) {
    FLUYT_TRY(in_sandbox(call, [&](sys::Netlink& pod) -> Result<> {
      const auto device = FLUYT_TRY(pod.find_details(call.device));
      return device ? apply(pod, device->index, *before) : Result<>();
    }));
  }
  return forget_kept(config, call);
}

Result<> tuning_status(const Call& call) {
  FLUYT_TRY(parse_tuning(call.request, "eth0"));
  return {};
}

}  // namespace fluyt::network::builtin
