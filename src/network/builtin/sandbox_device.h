#pragma once

#include <functional>
#include <string>

#include "network/builtin/builtin.h"
#include "network/builtin/sandbox_addresses.h"
#include "sys/netlink.h"

/// What every plugin that makes a sandbox's device does with it.
namespace fluyt::network::builtin {

/// `body` in the call's network namespace, with a socket there.
Result<> in_sandbox(const Call& call, const std::function<Result<>(sys::Netlink& pod)>& body);

/// Below /proc/sys/net, of the namespace of this thread.
Result<> write_sysctl(const std::string& name, std::string_view value);
/// Written only where it is not so already: as a rule it is, and a write costs every device a
/// visit.
Result<> ensure_sysctl(const std::string& name, std::string_view value);
/// The sysctl that makes this host forward packets of the family.
Result<> enable_forwarding(const Address& address);

/// "veth" and eight digits of chance.
Result<std::string> random_name(std::string_view prefix);

/// kNotFound when it is not there.
Result<sys::LinkDetails> get_device(sys::Netlink& netlink, const std::string& name);

/// As ip(8) makes it: an IPv4 network has a broadcast address when there is room for one.
sys::LinkAddress link_address(const Prefix& prefix);
Prefix prefix_of(const sys::LinkAddress& address);

/// In the sandbox: addresses, up, routes.
Result<> configure_device(sys::Netlink& pod, const sys::LinkDetails& device,
                          const SandboxAddresses& addresses, Deadline deadline);

/// DEL of the device, if there are namespace and device still.
Result<> remove_device(const Call& call);

/// "dns" of an entry, checked.
Result<Json> dns_of(const Json& request);
/// ips, routes and dns of a result; the entry's own dns goes before the address manager's.
void put_addresses(const SandboxAddresses& addresses, const Json& entry_dns, const Json& given_dns,
                   Json& result);

/// The result that an entry is chained to. An error where there is none.
Result<Json> previous_result(const Call& call);

/// What comes from the sandbox and leaves its subnet gets an address of this host.
Result<> masquerade(const Call& call, const std::vector<Prefix>& addresses);
Result<> check_masquerade(const Call& call, const std::vector<Prefix>& addresses);
Result<> remove_masquerade(const Call& call);

}  // namespace fluyt::network::builtin
