#include "network/builtin/sandbox_device.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/network_thread.h"

namespace fluyt::network::builtin {

namespace {

const std::vector<std::string_view> kMasquerade = {"masquerade"};
constexpr const char* kSysctls = "/proc/sys/net/";
constexpr int64_t kSettleMs = 10'000;  // as the programs

Result<> enable_ipv6(const std::string& name_of_device) {
  for (const std::string& device : {std::string("lo"), name_of_device}) {
    const std::string name = cat("ipv6/conf/", device, "/disable_ipv6");
    if (sys::exists(cat(kSysctls, name))) FLUYT_TRY(ensure_sysctl(name, "0"));
  }
  return {};
}

// Duplicate detection may be on: the address is of no use before. Without a carrier it does not
// even begin, and the sandbox has to be there when the carrier comes: then it is not waited for.
Result<> wait_for_addresses(sys::Netlink& pod, int index, Deadline deadline) {
  const Deadline settled = Deadline::after_ms(kSettleMs);
  while (true) {
    bool tentative = false;
    for (const sys::LinkAddress& address : FLUYT_TRY(pod.addresses(index))) {
      if ((address.flags & IFA_F_DADFAILED) != 0) {
        return Error(Code::kAlreadyExists,
                     cat(prefix_of(address).text(), " is in use by another host"));
      }
      tentative = tentative || ((address.flags & IFA_F_TENTATIVE) != 0 && address.scope == 0);
    }
    if (!tentative || settled.passed()) return {};
    if (deadline.passed()) {
      return Error(Code::kDeadlineExceeded, "its IPv6 address is tentative still");
    }
    ::usleep(20'000);
  }
}

Rules masquerade_rules(const std::vector<Prefix>& addresses, const std::string& owner) {
  Rules rules;
  for (const Prefix& prefix : addresses) add_masquerade(prefix, owner, rules);
  return rules;
}

}  // namespace

Result<> in_sandbox(const Call& call, const std::function<Result<>(sys::Netlink& pod)>& body) {
  const sys::Fd netns = FLUYT_TRY(sys::open(call.netns, O_RDONLY));
  return sys::in_network(netns, [&]() -> Result<> {
    sys::Netlink pod = FLUYT_TRY(sys::Netlink::open());
    return body(pod);
  });
}

Result<> write_sysctl(const std::string& name, std::string_view value) {
  return sys::write_file(sys::kCwd, cat(kSysctls, name), value);
}

Result<> ensure_sysctl(const std::string& name, std::string_view value) {
  const auto present = sys::read_file(cat(kSysctls, name), 64);
  if (present.ok() && trim(*present) == value) return {};
  return write_sysctl(name, value);
}

Result<> enable_forwarding(const Address& address) {
  return ensure_sysctl(address.v4() ? "ipv4/ip_forward" : "ipv6/conf/all/forwarding", "1");
}

Result<std::string> random_name(std::string_view prefix) {
  std::array<char, 4> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return Error::from_errno(errno, "getrandom(4)");
  }
  return cat(prefix, to_hex(std::string_view(bytes.data(), bytes.size())));
}

sys::LinkAddress link_address(const Prefix& prefix) {
  sys::LinkAddress out{.family = prefix.address.family(),
                       .prefix_length = static_cast<uint8_t>(prefix.length),
                       .address = prefix.address.bytes,
                       .local = prefix.address.bytes,
                       .broadcast = {}};
  if (prefix.address.v4() && prefix.length < 31) out.broadcast = prefix.last().bytes;
  return out;
}

Prefix prefix_of(const sys::LinkAddress& address) {
  return {Address{address.local.empty() ? address.address : address.local}, address.prefix_length};
}

Result<sys::LinkDetails> get_device(sys::Netlink& netlink, const std::string& name) {
  auto found = FLUYT_TRY(netlink.find_details(name));
  if (!found) return Error(Code::kNotFound, cat("device ", quote(name, 16), " is not there"));
  return std::move(*found);
}

Result<> configure_device(sys::Netlink& pod, const sys::LinkDetails& device,
                          const SandboxAddresses& addresses, Deadline deadline) {
  const bool has_v6 = std::any_of(addresses.pod.begin(), addresses.pod.end(),
                                  [](const Prefix& prefix) { return !prefix.address.v4(); });
  if (has_v6) FLUYT_TRY(enable_ipv6(device.name));
  for (const Prefix& prefix : addresses.pod) {
    FLUYT_TRY_CONTEXT(pod.add_address(device.index, link_address(prefix)), prefix.text());
  }
  FLUYT_TRY(pod.set_up(device.index));
  if (has_v6) FLUYT_TRY(wait_for_addresses(pod, device.index, deadline));
  for (const Way& way : addresses.ways) {
    auto added = pod.add_route({.family = way.destination.address.family(),
                                .destination = way.destination.network().bytes,
                                .prefix_length = static_cast<uint8_t>(way.destination.length),
                                .gateway = way.gateway ? way.gateway->bytes : "",
                                .device = device.index});
    if (!added.ok() && added.error().code() != Code::kAlreadyExists) {
      return std::move(added).error().add_context(cat("route ", way.destination.text()));
    }
  }
  return {};
}

Result<> remove_device(const Call& call) {
  if (call.netns.empty()) return {};
  return in_sandbox(call, [&](sys::Netlink& pod) -> Result<> {
    const auto device = FLUYT_TRY(pod.find_details(call.device));
    if (!device) return {};
    auto deleted = sys::Netlink::remove_link_here(device->index);
    if (!deleted.ok() && deleted.error().code() != Code::kNotFound) return deleted;
    return {};
  });
}

Result<Json> dns_of(const Json& request) {
  const Json dns = request.value("dns", Json::object());
  if (!dns.is_object()) return wrong_field("dns", dns, "an object");
  return dns;
}

void put_addresses(const SandboxAddresses& addresses, const Json& entry_dns, const Json& given_dns,
                   Json& result) {
  result["dns"] = entry_dns.empty() ? given_dns : entry_dns;
  if (!addresses.ips.empty()) result["ips"] = addresses.ips;
  if (addresses.routes.is_array() && !addresses.routes.empty()) {
    result["routes"] = addresses.routes;
  }
}

Result<Json> previous_result(const Call& call) {
  const auto previous = call.request.find("prevResult");
  if (previous != call.request.end() && previous->is_object()) return *previous;
  return Error(Code::kInvalidArgument,
               "prevResult: missing: a plugin that makes a device is expected before this one in "
               "the list");
}

Result<> masquerade(const Call& call, const std::vector<Prefix>& addresses) {
  const std::string owner = FLUYT_TRY(owner_name(call.container_id, call.device));
  std::vector<Address> plain;
  for (const Prefix& prefix : addresses) plain.push_back(prefix.address);
  return call.firewall.add(masquerade_rules(addresses, owner), plain);
}

Result<> check_masquerade(const Call& call, const std::vector<Prefix>& addresses) {
  const std::string owner = FLUYT_TRY(owner_name(call.container_id, call.device));
  const Rules rules = masquerade_rules(addresses, owner);
  const auto present = FLUYT_TRY(call.firewall.find(owner, kMasquerade));
  for (const Element& wanted : rules.elements) {
    if (std::find(present.begin(), present.end(), wanted) == present.end()) {
      return Error(Code::kFailedPrecondition,
                   cat("table ", kTable, ", map ", wanted.map, ": ", wanted.key, " is missing"));
    }
  }
  return {};
}

Result<> remove_masquerade(const Call& call) {
  return call.firewall.remove(FLUYT_TRY(owner_name(call.container_id, call.device)), kMasquerade);
}

}  // namespace fluyt::network::builtin
