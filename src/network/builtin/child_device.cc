#include "network/builtin/child_device.h"

#include <fcntl.h>

#include "base/strings.h"
#include "network/builtin/device_check.h"
#include "network/builtin/result_form.h"
#include "network/builtin/sandbox_addresses.h"
#include "network/builtin/sandbox_device.h"
#include "sys/file.h"

namespace fluyt::network::builtin {

namespace {

Result<sys::LinkDetails> find_master(sys::Netlink& host, const ChildConfig& config) {
  if (config.master.empty()) {
    const int index = FLUYT_TRY(host.default_device());
    if (auto found = index == 0 ? std::nullopt : FLUYT_TRY(host.find_details(index))) {
      return std::move(*found);
    }
    return Error(Code::kFailedPrecondition,
                 "master: none is given, and this host has no default route");
  }
  auto found = FLUYT_TRY(host.find_details(config.master));
  if (found) return std::move(*found);
  return wrong_field("master", Json(config.master), "a device of this host")
      .with_code(Code::kFailedPrecondition);
}

Result<> add_device(sys::Netlink& host, const Call& call, const ChildConfig& config) {
  const sys::LinkDetails master = FLUYT_TRY(find_master(host, config));
  if (config.mtu > master.mtu) {
    return wrong_field("mtu", Json(config.mtu),
                       cat("at most ", master.mtu, ", that of ", master.name, ","));
  }
  const sys::Fd netns = FLUYT_TRY(sys::open(call.netns, O_RDONLY));
  const sys::NewChild child{.name = call.device,
                            .parent = master.index,
                            .mtu = config.mtu,
                            .network = netns,
                            .mac = config.mac};
  if (config.kind == "macvlan") return host.add_macvlan(child, config.number);
  if (config.kind == "ipvlan") return host.add_ipvlan(child, static_cast<uint16_t>(config.number));
  return host.add_vlan(child, static_cast<uint16_t>(config.number));
}

}  // namespace

Result<ChildConfig> parse_child(const Json& request, std::string kind) {
  ChildConfig config;
  config.kind = std::move(kind);
  if (!FLUYT_TRY(text_of(request, "master")).empty()) {
    config.master = FLUYT_TRY(device_of(request, "master", ""));
  }
  config.mtu = static_cast<uint32_t>(FLUYT_TRY(number_of(request, "mtu", 0, 65535, 0)));
  config.ipam = FLUYT_TRY(ipam::parse(request));
  config.dns = FLUYT_TRY(dns_of(request));
  return config;
}

std::string child_why_not(const Json& config, std::vector<std::string_view> known) {
  known.insert(known.end(), {"master", "mtu", "ipam", "dns"});
  std::vector<std::string> out = unknown_keys(config, known);
  if (std::string why = ipam::why_not(config); !why.empty()) out.push_back(std::move(why));
  return join(out, ", ");
}

Result<Json> child_add(const Call& call, const ChildConfig& config) {
  const Given given =
      FLUYT_TRY(ipam::add(config.ipam, {call.container_id, call.device}, call.deadline));
  const SandboxAddresses addresses = plan_sandbox(given, 0);
  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  FLUYT_TRY(add_device(host, call, config));
  std::string mac;
  FLUYT_TRY(in_sandbox(call, [&](sys::Netlink& pod) -> Result<> {
    const sys::LinkDetails device = FLUYT_TRY(get_device(pod, call.device));
    mac = device.mac;
    for (const auto& [name, value] : config.sysctls) {
      write_sysctl(replaced(name, "DEVICE", call.device), value).ignore("no such protocol here");
    }
    if (ipam::is_none(config.ipam)) return pod.set_up(device.index);
    return configure_device(pod, device, addresses, call.deadline);
  }));
  Json result = {
      {"interfaces",
       Json::array({{{"name", call.device}, {"mac", mac_text(mac)}, {"sandbox", call.netns}}})}};
  put_addresses(addresses, config.dns, given.dns, result);
  return result;
}

Result<> child_check(const Call& call, const ChildConfig& config) {
  const Json result = FLUYT_TRY(previous_result(call));
  FLUYT_TRY(ipam::check(config.ipam, {call.container_id, call.device}, call.deadline));
  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  const sys::LinkDetails master = FLUYT_TRY(find_master(host, config));
  return check_device(call, result, 0, [&](const sys::LinkDetails& device) -> Result<> {
    const uint32_t number = config.kind == "vlan" ? device.vlan : device.mode;
    if (device.kind != config.kind || number != config.number) {
      return differs(cat("device ", device.name, " is no ", config.kind, " of mode or number ",
                         config.number));
    }
    if (device.peer != master.index) {
      return differs(cat("device ", device.name, " does not lie on ", master.name));
    }
    return {};
  });
}

Result<> child_remove(const Call& call, const ChildConfig& config) {
  FLUYT_TRY(remove_device(call));
  return ipam::remove(config.ipam, {call.container_id, call.device}, call.deadline);
}

Result<> child_status(const ChildConfig& config) {
  sys::Netlink host = FLUYT_TRY(sys::Netlink::open());
  FLUYT_TRY(find_master(host, config));
  return {};
}

Result<> child_collect(const Call& call, const ChildConfig& config) {
  return ipam::collect(config.ipam, call);
}

}  // namespace fluyt::network::builtin
