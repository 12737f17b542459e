#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/netlink.h"
#include "sys/netlink_message.h"

namespace fluyt::sys {

namespace {

using netlink_bytes::aligned;
using netlink_bytes::find_attribute;
using netlink_bytes::text_of;
using netlink_bytes::value_at;

constexpr uint8_t kOperUp = 6;  // IF_OPER_UP of RFC 2863

ifinfomsg device(int index) {
  ifinfomsg head{};
  head.ifi_index = index;
  return head;
}

ifinfomsg device_flags(int index, unsigned flags, unsigned change) {
  ifinfomsg head = device(index);
  head.ifi_flags = flags;
  head.ifi_change = change;
  return head;
}

LinkDetails details_of(std::string_view message) {
  const auto info = value_at<ifinfomsg>(message, 0);
  const std::string_view attributes = message.substr(aligned(sizeof(ifinfomsg)));
  const std::string_view info_of_kind = find_attribute(attributes, IFLA_LINKINFO);
  const std::string kind = text_of(find_attribute(info_of_kind, IFLA_INFO_KIND));
  const std::string_view data = find_attribute(info_of_kind, IFLA_INFO_DATA);
  uint32_t mode = 0;
  if (kind == "macvlan") mode = value_at<uint32_t>(find_attribute(data, IFLA_MACVLAN_MODE), 0);
  if (kind == "ipvlan") mode = value_at<uint16_t>(find_attribute(data, IFLA_IPVLAN_MODE), 0);
  return {
      .index = info.ifi_index,
      .name = text_of(find_attribute(attributes, IFLA_IFNAME)),
      .up = (info.ifi_flags & IFF_UP) != 0,
      .running = value_at<uint8_t>(find_attribute(attributes, IFLA_OPERSTATE), 0) == kOperUp,
      .promiscuous = (info.ifi_flags & IFF_PROMISC) != 0,
      .all_multicast = (info.ifi_flags & IFF_ALLMULTI) != 0,
      .mac = std::string(find_attribute(attributes, IFLA_ADDRESS)),
      .kind = kind,
      .mtu = value_at<uint32_t>(find_attribute(attributes, IFLA_MTU), 0),
      .queue_length = value_at<uint32_t>(find_attribute(attributes, IFLA_TXQLEN), 0),
      .vlan = kind == "vlan" ? value_at<uint16_t>(find_attribute(data, IFLA_VLAN_ID), 0)
                             : static_cast<uint16_t>(0),
      .mode = mode,
      .master = value_at<int>(find_attribute(attributes, IFLA_MASTER), 0),
      .peer = value_at<int>(find_attribute(attributes, IFLA_LINK), 0),
  };
}

}  // namespace

Result<std::optional<LinkDetails>> Netlink::one_link(Request& request, const std::string& what) {
  auto answers = ask(request, what);
  if (!answers.ok() && answers.error().errno_value() == ENODEV) return std::optional<LinkDetails>();
  if (!answers.ok()) return std::move(answers).error();
  for (const Answer& answer : *answers) {
    if (answer.type == RTM_NEWLINK && answer.body.size() >= sizeof(ifinfomsg)) {
      return std::optional(details_of(answer.body));
    }
  }
  return std::optional<LinkDetails>();
}

Result<std::optional<LinkDetails>> Netlink::find_details(const std::string& name) {
  Request request(RTM_GETLINK, 0, ifinfomsg{});
  request.add_name(IFLA_IFNAME, name);
  return one_link(request, cat("RTM_GETLINK(", quote(name), ")"));
}

Result<std::optional<LinkDetails>> Netlink::find_details(int index) {
  Request request(RTM_GETLINK, 0, device(index));
  return one_link(request, cat("RTM_GETLINK(device ", index, ")"));
}

Result<std::string> Netlink::name_of(int index) {
  auto found = FLUYT_TRY(find_details(index));
  if (found) return std::move(found->name);
  return Error(Code::kNotFound, cat("RTM_GETLINK(device ", index, "): there is none"));
}

Result<> Netlink::add_bridge(const std::string& name, uint32_t mtu) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  request.add_name(IFLA_IFNAME, name);
  if (mtu != 0) request.add(IFLA_MTU, mtu);
  const size_t info = request.open(IFLA_LINKINFO);
  request.add(IFLA_INFO_KIND, "bridge");
  request.close(info);
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(bridge ", quote(name), ")")));
  return {};
}

Result<> Netlink::add_veth(const NewVeth& veth) {
  Request request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, device_flags(0, IFF_UP, IFF_UP));
  request.add_name(IFLA_IFNAME, veth.name);
  if (veth.mtu != 0) request.add(IFLA_MTU, veth.mtu);
  request.add(IFLA_TXQLEN, 0U);
  if (veth.master != 0) request.add(IFLA_MASTER, static_cast<uint32_t>(veth.master));
  const size_t info = request.open(IFLA_LINKINFO);
  request.add(IFLA_INFO_KIND, "veth");
  const size_t data = request.open(IFLA_INFO_DATA);
  const size_t peer = request.open(VETH_INFO_PEER);
  request.add_header(ifinfomsg{});
  request.add_name(IFLA_IFNAME, veth.peer_name);
  if (veth.mtu != 0) request.add(IFLA_MTU, veth.mtu);
  request.add(IFLA_TXQLEN, 0U);
  if (!veth.peer_mac.empty()) request.add(IFLA_ADDRESS, veth.peer_mac);
  request.add(IFLA_NET_NS_FD, static_cast<uint32_t>(veth.peer_network.raw()));
  request.close(peer);
  request.close(data);
  request.close(info);
  FLUYT_TRY(ask(request,
                cat("RTM_NEWLINK(veth ", quote(veth.name), ", peer ", quote(veth.peer_name), ")")));
  return {};
}

Result<> Netlink::delete_link(int index) {
  Request request(RTM_DELLINK, 0, device(index));
  auto deleted = ask(request, cat("RTM_DELLINK(device ", index, ")"));
  if (deleted.ok()) return {};
  if (deleted.error().errno_value() == ENODEV) {
    return std::move(deleted).error().with_code(Code::kNotFound);
  }
  return std::move(deleted).error();
}

Result<> Netlink::set_mac(int index, const std::string& mac) {
  Request request(RTM_NEWLINK, 0, device(index));
  request.add(IFLA_ADDRESS, mac);
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(device ", index, ", IFLA_ADDRESS)")));
  return {};
}

Result<> Netlink::set_promiscuous(int index, Switch to) {
  Request request(RTM_NEWLINK, 0,
                  device_flags(index, to == Switch::kOn ? IFF_PROMISC : 0, IFF_PROMISC));
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(device ", index, ", promisc)")));
  return {};
}

Result<> Netlink::set_all_multicast(int index, Switch to) {
  Request request(RTM_NEWLINK, 0,
                  device_flags(index, to == Switch::kOn ? IFF_ALLMULTI : 0, IFF_ALLMULTI));
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(device ", index, ", allmulti)")));
  return {};
}

Result<> Netlink::set_mtu(int index, uint32_t mtu) {
  Request request(RTM_NEWLINK, 0, device(index));
  request.add(IFLA_MTU, mtu);
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(device ", index, ", IFLA_MTU ", mtu, ")")));
  return {};
}

Result<> Netlink::set_queue_length(int index, uint32_t packets) {
  Request request(RTM_NEWLINK, 0, device(index));
  request.add(IFLA_TXQLEN, packets);
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(device ", index, ", IFLA_TXQLEN ", packets, ")")));
  return {};
}

Result<> Netlink::set_down(int index) {
  Request request(RTM_NEWLINK, 0, device_flags(index, 0, IFF_UP));
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(device ", index, ", down)")));
  return {};
}

Result<> Netlink::set_hairpin(int index) {
  ifinfomsg head = device(index);
  head.ifi_family = AF_BRIDGE;
  Request request(RTM_SETLINK, 0, head);
  const size_t port = request.open(IFLA_PROTINFO | NLA_F_NESTED);
  request.add_byte(IFLA_BRPORT_MODE, 1);
  request.close(port);
  FLUYT_TRY(ask(request, cat("RTM_SETLINK(device ", index, ", hairpin)")));
  return {};
}

}  // namespace fluyt::sys
