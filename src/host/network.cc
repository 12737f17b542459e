#include "network/network.h"

#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>

#include "base/strings.h"
#include "host/probe.h"
#include "network/builtin/builtin.h"
#include "network/builtin/foreign_rules.h"
#include "network/builtin/nft.h"
#include "network/builtin/rules.h"
#include "network/config.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/netlink.h"

namespace fluyt::host {

namespace {

// --- Devices and rules, in a network namespace of a child's own ----------------------------------

Result<sys::Fd> own_network() {
  FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWNET));
  return sys::open("/proc/self/ns/net", O_RDONLY);
}

// A veth pair in our namespace; the index of its first end.
Result<int> add_veth(sys::Netlink& netlink, sys::FdRef network) {
  FLUYT_TRY(netlink.add_veth({.name = "check0",
                              .peer_name = "check1",
                              .mtu = 0,
                              .master = 0,
                              .peer_network = network,
                              .peer_mac = {}}));
  const auto link = FLUYT_TRY(netlink.find_link("check0"));
  if (!link) return Error(Code::kInternal, "a veth was made and is not there");
  return link->index;
}

Result<std::string> bridge() {
  const sys::Fd network = FLUYT_TRY(own_network());
  auto netlink = FLUYT_TRY(sys::Netlink::open());
  FLUYT_TRY(netlink.add_bridge("check-br", 0));
  const auto made = FLUYT_TRY(netlink.find_link("check-br"));
  if (!made) return Error(Code::kInternal, "a bridge was made and is not there");
  FLUYT_TRY(netlink.add_veth({.name = "check0",
                              .peer_name = "check1",
                              .mtu = 0,
                              .master = made->index,
                              .peer_network = network,
                              .peer_mac = {}}));
  return std::string("a veth on a bridge");
}

Result<std::string> nftables() {
  FLUYT_TRY(own_network());
  network::Nft nft;
  FLUYT_TRY(nft.run(network::table_text()));
  return std::string("fluyt's table can be made");
}

enum class Child { kMacvlan, kIpvlan, kVlan };

Result<std::string> child_device(Child kind) {
  constexpr uint16_t kIpvlanL2 = 0;
  constexpr uint16_t kSomeVlan = 5;
  const sys::Fd network = FLUYT_TRY(own_network());
  auto netlink = FLUYT_TRY(sys::Netlink::open());
  const int parent = FLUYT_TRY(add_veth(netlink, network));
  const sys::NewChild child{
      .name = "check2", .parent = parent, .mtu = 0, .network = network, .mac = {}};
  switch (kind) {
    case Child::kMacvlan:
      FLUYT_TRY(netlink.add_macvlan(child, MACVLAN_MODE_BRIDGE));
      break;
    case Child::kIpvlan:
      FLUYT_TRY(netlink.add_ipvlan(child, kIpvlanL2));
      break;
    case Child::kVlan:
      FLUYT_TRY(netlink.add_vlan(child, kSomeVlan));
      break;
  }
  return std::string("a device of it can be made");
}

Result<std::string> bandwidth() {
  constexpr uint64_t kBytesASecond = 125'000;
  constexpr double kBurstMicroseconds = 10'000;
  constexpr uint32_t kLimitBytes = 1U << 20U;
  const sys::Fd network = FLUYT_TRY(own_network());
  auto netlink = FLUYT_TRY(sys::Netlink::open());
  const int device = FLUYT_TRY(add_veth(netlink, network));
  const double ticks = FLUYT_TRY(sys::psched_ticks()) * kBurstMicroseconds;
  FLUYT_TRY(netlink.add_token_bucket(device, {.rate = kBytesASecond,
                                              .buffer = static_cast<uint32_t>(std::lround(ticks)),
                                              .limit = kLimitBytes}));
  FLUYT_TRY(netlink.add_ifb("check-ifb", 0));
  const auto ifb = FLUYT_TRY(netlink.find_link("check-ifb"));
  if (!ifb) return Error(Code::kInternal, "an ifb was made and is not there");
  FLUYT_TRY(netlink.redirect_ingress(device, ifb->index));
  return std::string("tbf, ifb and mirred");
}

Result<std::string> ipv6() {
  FLUYT_TRY(own_network());
  FLUYT_TRY(sys::bring_loopback_up());
  const std::string off = FLUYT_TRY(sys::read_file("/proc/sys/net/ipv6/conf/all/disable_ipv6", 16));
  if (trim(off) != "0")
    return Error(Code::kFailedPrecondition, "net.ipv6.conf.all.disable_ipv6 is 1");
  return std::string("on in new network namespaces");
}

Result<std::string> route_localnet() {
  FLUYT_TRY(own_network());
  FLUYT_TRY(sys::write_file(sys::kCwd, "/proc/sys/net/ipv4/conf/lo/route_localnet", "1"));
  return std::string("route_localnet can be set");
}

// fluytd turns it on with the first pod that needs it.
Result<std::string> forwarding() {
  const std::string now = FLUYT_TRY(sys::read_file("/proc/sys/net/ipv4/ip_forward", 16));
  FLUYT_TRY(own_network());
  FLUYT_TRY(sys::write_file(sys::kCwd, "/proc/sys/net/ipv4/ip_forward", "1"));
  return std::string(trim(now) == "1" ? "on"
                                      : "off; fluytd turns it on with the first pod's network");
}

// --- The host's own namespace, which is only looked at
// --------------------------------------------

void examine_foreign_rules(Findings& findings) {
  Findings::About about{.name = "rules of others",
                        .loses = "pods' packets pass only where CNI's plugin firewall lets them",
                        .remedy = "put {\"type\": \"firewall\"} into the network's plugins"};
  const auto drop = in_child([]() -> Result<std::string> {
    // libnftables ends the process where it may not ask.
    if (::geteuid() != 0) return Error(Code::kPermissionDenied, "not root");
    network::Nft nft;
    return network::find_foreign_drop(nft);
  });
  if (!drop.ok()) {
    about.loses = "whether they drop forwarded packets is not known";
    about.remedy = "see nftables";
    return findings.add(std::move(about), drop);
  }
  if (drop->empty())
    return findings.add(std::move(about), Has::kYes, "none drops forwarded packets");
  findings.add(std::move(about), Has::kPartly, *drop);
}

void examine_bridged_packets(Findings& findings) {
  Findings::About about{.name = "br_netfilter",
                        .loses = "services do not reach pods on the caller's own bridge",
                        .remedy = "modprobe br_netfilter"};
  const auto set = sys::read_file("/proc/sys/net/bridge/bridge-nf-call-iptables", 16);
  if (!set.ok()) return findings.add(std::move(about), Has::kNo, "not loaded");
  const bool on = trim(*set) == "1";
  if (!on) about.remedy = "sysctl -w net.bridge.bridge-nf-call-iptables=1";
  findings.add(std::move(about), on ? Has::kYes : Has::kNo,
               on ? "bridged packets meet the rules" : "bridge-nf-call-iptables is 0");
}

Result<std::string> tun() {
  const sys::Fd device = FLUYT_TRY(sys::open("/dev/net/tun", O_RDWR));
  unsigned features = 0;
  if (::ioctl(device.raw(), TUNGETFEATURES, &features) != 0)
    return Error::from_errno(errno, "ioctl(TUNGETFEATURES)");
  return std::string("/dev/net/tun opens");
}

// --- CNI
// ------------------------------------------------------------------------------------------

using network::NetworkConfig;

bool is_program_in(const std::string& name, const std::vector<std::string>& folders) {
  return std::ranges::any_of(folders, [&](const std::string& folder) {
    return ::access(cat(folder, "/", name).c_str(), X_OK) == 0;
  });
}

// Which of its plugins is built in, which is a program, and which is nowhere.
void add_network(const Options& options, const NetworkConfig& network, Findings& findings) {
  std::vector<std::string> built_in;
  std::vector<std::string> programs;
  std::vector<std::string> nowhere;
  for (const network::PluginConfig& plugin : network.plugins) {
    if (options.network_builtin && !network::builtin::why_not(plugin.type, plugin.json)) {
      built_in.push_back(plugin.type);
    } else if (is_program_in(plugin.type, options.cni_bin_dirs)) {
      programs.push_back(plugin.type);
    } else {
      nowhere.push_back(plugin.type);
    }
  }
  std::string found = network.source;
  if (!built_in.empty()) found += cat(": built in ", join(built_in, ", "));
  if (!programs.empty())
    found += cat(built_in.empty() ? ": " : "; ", "programs ", join(programs, ", "));
  if (!nowhere.empty()) found += cat("; not there: ", join(nowhere, ", "));
  findings.add({.name = "CNI network",
                .need = Need::kPods,
                .loses = "pods with a network of their own do not start",
                .remedy = cat("install the plugin to ", join(options.cni_bin_dirs, " or "))},
               nowhere.empty() ? Has::kYes : Has::kNo, std::move(found));
}

// Nothing is known of the plugins where there is no configuration: then what a bridge takes.
std::optional<NetworkConfig> find_network(const Options& options, Findings& findings) {
  Findings::About about{
      .name = "CNI network",
      .loses = "pods with a network of their own do not start yet",
      .remedy = cat("put a configuration in ", options.cni_conf_dir, " (docs/network.md)")};
  const auto folder = network::load_folder(options.cni_conf_dir);
  if (folder.ok() && !folder->networks.empty()) {
    add_network(options, folder->networks.front(), findings);
    return folder->networks.front();
  }
  std::string found = cat("no configuration in ", options.cni_conf_dir);
  if (folder.ok() && !folder->broken.empty()) {
    found = cat(folder->broken.front().path, ": ", folder->broken.front().reason);
  }
  findings.add(std::move(about), Has::kNo, std::move(found));
  return std::nullopt;
}

// Needed where the network is made with one of these, or is not known yet.
Need need_of(const std::optional<NetworkConfig>& network,
             const std::vector<std::string_view>& types, Need without_network) {
  if (!network) return without_network;
  const bool used = std::ranges::any_of(network->plugins, [&](const auto& plugin) {
    return std::ranges::find(types, plugin.type) != types.end();
  });
  return used ? Need::kPods : Need::kSome;
}

}  // namespace

void examine_network(const Options& options, Findings findings) {
  const auto network = find_network(options, findings);
  findings.try_out({.name = "bridge and veth",
                    .need = need_of(network, {"bridge", "ptp"}, Need::kPods),
                    .loses = "no network of CNI's bridge or ptp",
                    .remedy = "modprobe bridge veth"},
                   bridge);
  findings.try_out(
      {.name = "nftables",
       .need = need_of(network, {"bridge", "ptp", "portmap"}, Need::kPods),
       .loses = "no masquerading and no host ports by fluytd itself",
       .remedy =
           "modprobe nft_chain_nat nft_masq nft_nat nft_fib_inet; or network.builtin = false"},
      nftables);
  examine_foreign_rules(findings);
  findings.try_out({.name = "forwarding",
                    .need = need_of(network, {"bridge", "ptp"}, Need::kPods),
                    .loses = "pods reach nothing outside of their node",
                    .remedy = "a writable /proc/sys/net; sysctl -w net.ipv4.ip_forward=1"},
                   forwarding);
  findings.try_out({.name = "host ports on loopback",
                    .loses = "127.0.0.1:PORT of a host port reaches no pod",
                    .remedy = "a writable /proc/sys/net"},
                   route_localnet);
  examine_bridged_packets(findings);
  findings.try_out(
      {.name = "IPv6",
       .loses = "pods have IPv4 alone",
       .remedy = "boot without ipv6.disable=1; sysctl -w net.ipv6.conf.all.disable_ipv6=0"},
      ipv6);
  findings.try_out({.name = "macvlan",
                    .need = need_of(network, {"macvlan"}, Need::kSome),
                    .loses = "no network of CNI's macvlan",
                    .remedy = "modprobe macvlan"},
                   [] { return child_device(Child::kMacvlan); });
  findings.try_out({.name = "ipvlan",
                    .need = need_of(network, {"ipvlan"}, Need::kSome),
                    .loses = "no network of CNI's ipvlan",
                    .remedy = "modprobe ipvlan"},
                   [] { return child_device(Child::kIpvlan); });
  findings.try_out({.name = "vlan",
                    .need = need_of(network, {"vlan"}, Need::kSome),
                    .loses = "no network of CNI's vlan",
                    .remedy = "modprobe 8021q"},
                   [] { return child_device(Child::kVlan); });
  findings.try_out({.name = "bandwidth",
                    .need = need_of(network, {"bandwidth"}, Need::kSome),
                    .loses = "pods' bandwidth cannot be limited",
                    .remedy = "modprobe sch_tbf ifb sch_ingress act_mirred cls_u32"},
                   bandwidth);
  findings.add({.name = "tun",
                .loses = "pods that ask for /dev/net/tun (VPNs) do not start",
                .remedy = "modprobe tun"},
               tun());
}

}  // namespace fluyt::host
