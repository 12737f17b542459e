#include <linux/if_addr.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/netlink.h"
#include "sys/netlink_message.h"

namespace fluyt::sys {

namespace {

using netlink_bytes::aligned;
using netlink_bytes::find_attribute;
using netlink_bytes::value_at;

}  // namespace

Result<> Netlink::delete_address(int index, const LinkAddress& address) {
  ifaddrmsg head{};
  head.ifa_family = address.family;
  head.ifa_prefixlen = address.prefix_length;
  head.ifa_index = static_cast<uint32_t>(index);
  Request request(RTM_DELADDR, 0, head);
  request.add(IFA_LOCAL, address.local.empty() ? address.address : address.local);
  FLUYT_TRY(ask(request, cat("RTM_DELADDR(device ", index, ")")));
  return {};
}

Result<> Netlink::add_route(const Route& route) {
  rtmsg head{};
  head.rtm_family = route.family;
  head.rtm_dst_len = route.prefix_length;
  head.rtm_table = RT_TABLE_MAIN;
  head.rtm_protocol = RTPROT_BOOT;
  head.rtm_scope = route.scope.value_or(
      route.gateway.empty() && route.family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE);
  head.rtm_type = RTN_UNICAST;
  // Another gateway to the same place is an equal one beside the first.
  Request request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, head);
  if (!route.destination.empty()) request.add(RTA_DST, route.destination);
  if (!route.gateway.empty()) request.add(RTA_GATEWAY, route.gateway);
  if (!route.source.empty()) request.add(RTA_PREFSRC, route.source);
  request.add(RTA_OIF, static_cast<uint32_t>(route.device));
  FLUYT_TRY(ask(request, cat("RTM_NEWROUTE(device ", route.device, ")")));
  return {};
}

Result<> Netlink::delete_route(const Route& route) {
  rtmsg head{};
  head.rtm_family = route.family;
  head.rtm_dst_len = route.prefix_length;
  head.rtm_table = RT_TABLE_MAIN;
  head.rtm_scope = RT_SCOPE_NOWHERE;  // any
  Request request(RTM_DELROUTE, 0, head);
  if (!route.destination.empty()) request.add(RTA_DST, route.destination);
  if (!route.gateway.empty()) request.add(RTA_GATEWAY, route.gateway);
  request.add(RTA_OIF, static_cast<uint32_t>(route.device));
  auto deleted = ask(request, cat("RTM_DELROUTE(device ", route.device, ")"));
  if (deleted.ok()) return {};
  if (deleted.error().errno_value() == ESRCH) {
    return std::move(deleted).error().with_code(Code::kNotFound);
  }
  return std::move(deleted).error();
}

Result<int> Netlink::default_device() {
  for (const Route& route : FLUYT_TRY(routes(AF_INET))) {
    if (route.prefix_length == 0 && route.device != 0) return route.device;
  }
  return 0;
}

Result<std::vector<Route>> Netlink::routes(uint8_t family) {
  rtmsg head{};
  head.rtm_family = family;
  Request request(RTM_GETROUTE, NLM_F_DUMP, head);
  std::vector<Route> out;
  for (const Answer& answer : FLUYT_TRY(ask(request, "RTM_GETROUTE"))) {
    if (answer.type != RTM_NEWROUTE || answer.body.size() < sizeof(rtmsg)) continue;
    const auto info = value_at<rtmsg>(answer.body, 0);
    if (info.rtm_table != RT_TABLE_MAIN) continue;
    const std::string_view attributes =
        std::string_view(answer.body).substr(aligned(sizeof(rtmsg)));
    out.push_back({.family = info.rtm_family,
                   .destination = std::string(find_attribute(attributes, RTA_DST)),
                   .prefix_length = info.rtm_dst_len,
                   .gateway = std::string(find_attribute(attributes, RTA_GATEWAY)),
                   .device = value_at<int>(find_attribute(attributes, RTA_OIF), 0)});
  }
  return out;
}

Result<int> Netlink::device_towards(uint8_t family, const std::string& address) {
  rtmsg head{};
  head.rtm_family = family;
  head.rtm_dst_len = static_cast<unsigned char>(address.size() * 8);
  Request request(RTM_GETROUTE, 0, head);
  request.add(RTA_DST, address);
  for (const Answer& answer : FLUYT_TRY(ask(request, "RTM_GETROUTE(one address)"))) {
    if (answer.type != RTM_NEWROUTE || answer.body.size() < sizeof(rtmsg)) continue;
    const std::string_view attributes =
        std::string_view(answer.body).substr(aligned(sizeof(rtmsg)));
    return value_at<int>(find_attribute(attributes, RTA_OIF), 0);
  }
  return Error(Code::kInternal, "RTM_GETROUTE(one address): no answer");
}

}  // namespace fluyt::sys
