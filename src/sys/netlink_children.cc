#include <linux/if_link.h>
#include <sys/socket.h>

#include "base/strings.h"
#include "sys/netlink.h"
#include "sys/netlink_message.h"

/// Devices on top of others: with the one attribute that makes their kind what it is.
namespace fluyt::sys {

namespace {

template <class Number>
std::string_view bytes_of(const Number& number) {
  return {reinterpret_cast<const char*>(&number), sizeof number};
}

}  // namespace

Result<> Netlink::add_child(const NewChild& child, const std::string& kind, uint16_t attribute,
                            std::string_view value) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  request.add_name(IFLA_IFNAME, child.name);
  request.add(IFLA_LINK, static_cast<uint32_t>(child.parent));
  if (child.mtu != 0) request.add(IFLA_MTU, child.mtu);
  request.add(IFLA_TXQLEN, 0U);
  if (!child.mac.empty()) request.add(IFLA_ADDRESS, child.mac);
  request.add(IFLA_NET_NS_FD, static_cast<uint32_t>(child.network.raw()));
  const size_t info = request.open(IFLA_LINKINFO);
  request.add(IFLA_INFO_KIND, kind);
  const size_t data = request.open(IFLA_INFO_DATA);
  request.add(attribute, value);
  request.close(data);
  request.close(info);
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(", kind, " ", quote(child.name), " on device ",
                             child.parent, ")")));
  return {};
}

Result<> Netlink::add_macvlan(const NewChild& child, uint32_t mode) {
  return add_child(child, "macvlan", IFLA_MACVLAN_MODE, bytes_of(mode));
}

Result<> Netlink::add_ipvlan(const NewChild& child, uint16_t mode) {
  return add_child(child, "ipvlan", IFLA_IPVLAN_MODE, bytes_of(mode));
}

Result<> Netlink::add_vlan(const NewChild& child, uint16_t id) {
  return add_child(child, "vlan", IFLA_VLAN_ID, bytes_of(id));
}

Result<> Netlink::add_ifb(const std::string& name, uint32_t mtu) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  request.add_name(IFLA_IFNAME, name);
  if (mtu != 0) request.add(IFLA_MTU, mtu);
  request.add(IFLA_TXQLEN, 0U);
  const size_t info = request.open(IFLA_LINKINFO);
  request.add(IFLA_INFO_KIND, "ifb");
  request.close(info);
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(ifb ", quote(name), ")")));
  return {};
}

}  // namespace fluyt::sys
