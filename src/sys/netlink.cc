#include "sys/netlink.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/netlink_message.h"

namespace fluyt::sys {

namespace {

using netlink_bytes::aligned;
using netlink_bytes::find_attribute;
using netlink_bytes::value_at;

constexpr size_t kBuffer = 32768;  // more than one packet of a dump (NLMSG_GOODSIZE)

}  // namespace

Result<Netlink> Netlink::open() {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket.valid()) return Error::from_errno(errno, "socket(AF_NETLINK, NETLINK_ROUTE)");
  return Netlink(std::move(socket));
}

Result<Netlink> Netlink::open_in(FdRef network) {
  const Fd own = FLUYT_TRY(sys::open("/proc/thread-self/ns/net", O_RDONLY));
  FLUYT_TRY(join_namespaces(network, CLONE_NEWNET));
  auto opened = open();
  FLUYT_TRY(join_namespaces(own, CLONE_NEWNET));
  return opened;
}

Result<std::vector<Netlink::Answer>> Netlink::ask(Request& request, const std::string& what) {
  const bool dump = (request.flags & NLM_F_DUMP) == NLM_F_DUMP;
  if (!dump) request.flags |= NLM_F_ACK;
  nlmsghdr head{};
  head.nlmsg_len = static_cast<uint32_t>(sizeof head + request.body.size());
  head.nlmsg_type = request.type;
  head.nlmsg_flags = request.flags;
  head.nlmsg_seq = ++sequence_;
  std::string packet(reinterpret_cast<const char*>(&head), sizeof head);
  packet += request.body;
  if (::send(socket_.raw(), packet.data(), packet.size(), 0) < 0) {
    return Error::from_errno(errno, cat(what, ": send"));
  }
  std::vector<Answer> answers;
  std::array<char, kBuffer> buffer{};
  while (true) {
    const ssize_t got = ::recv(socket_.raw(), buffer.data(), buffer.size(), MSG_TRUNC);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, cat(what, ": recv"));
    if (static_cast<size_t>(got) > buffer.size()) {
      return Error(Code::kInternal, cat(what, ": an answer of ", got, " bytes"));
    }
    const std::string_view all(buffer.data(), static_cast<size_t>(got));
    size_t at = 0;
    while (at + sizeof(nlmsghdr) <= all.size()) {
      const auto reply = value_at<nlmsghdr>(all, at);
      if (reply.nlmsg_len < sizeof reply || at + reply.nlmsg_len > all.size()) break;
      const std::string_view body = all.substr(at + sizeof reply, reply.nlmsg_len - sizeof reply);
      at += aligned(reply.nlmsg_len);
      if (reply.nlmsg_seq != sequence_) continue;  // of a request that was given up
      if (reply.nlmsg_type == NLMSG_DONE) return answers;
      if (reply.nlmsg_type == NLMSG_ERROR) {
        const int error = -value_at<int>(body, 0);
        if (error != 0) return Error::from_errno(error, what);
        return answers;
      }
      answers.push_back({reply.nlmsg_type, std::string(body)});
    }
  }
}

Result<std::vector<Link>> Netlink::links() {
  Request request(RTM_GETLINK, NLM_F_DUMP, ifinfomsg{});
  std::vector<Link> out;
  for (const Answer& answer : FLUYT_TRY(ask(request, "RTM_GETLINK"))) {
    if (answer.type != RTM_NEWLINK || answer.body.size() < sizeof(ifinfomsg)) continue;
    const auto info = value_at<ifinfomsg>(answer.body, 0);
    const std::string_view attributes =
        std::string_view(answer.body).substr(aligned(sizeof(ifinfomsg)));
    const std::string_view name = find_attribute(attributes, IFLA_IFNAME);
    // The first eight of struct rtnl_link_stats64, which every kernel has in this order.
    const auto counted = value_at<LinkCounters>(find_attribute(attributes, IFLA_STATS64), 0);
    out.push_back({.index = info.ifi_index,
                   .name = std::string(name.substr(0, name.find('\0'))),
                   .up = (info.ifi_flags & IFF_UP) != 0,
                   .counters = counted});
  }
  return out;
}

Result<std::optional<Link>> Netlink::find_link(const std::string& name) {
  for (Link& link : FLUYT_TRY(links())) {
    if (link.name == name) return std::optional(std::move(link));
  }
  return std::optional<Link>();
}

Result<std::vector<LinkAddress>> Netlink::addresses(int index) {
  Request request(RTM_GETADDR, NLM_F_DUMP, ifaddrmsg{});
  std::vector<LinkAddress> out;
  for (const Answer& answer : FLUYT_TRY(ask(request, "RTM_GETADDR"))) {
    if (answer.type != RTM_NEWADDR || answer.body.size() < sizeof(ifaddrmsg)) continue;
    const auto info = value_at<ifaddrmsg>(answer.body, 0);
    if (static_cast<int>(info.ifa_index) != index) continue;
    const std::string_view attributes =
        std::string_view(answer.body).substr(aligned(sizeof(ifaddrmsg)));
    const std::string_view flags = find_attribute(attributes, IFA_FLAGS);
    out.push_back({.family = info.ifa_family,
                   .prefix_length = info.ifa_prefixlen,
                   .scope = info.ifa_scope,
                   .flags = flags.empty() ? info.ifa_flags : value_at<uint32_t>(flags, 0),
                   .address = std::string(find_attribute(attributes, IFA_ADDRESS)),
                   .local = std::string(find_attribute(attributes, IFA_LOCAL)),
                   .broadcast = std::string(find_attribute(attributes, IFA_BROADCAST))});
  }
  return out;
}

Result<> Netlink::add_address(int index, const LinkAddress& address) {
  ifaddrmsg head{};
  head.ifa_family = address.family;
  head.ifa_prefixlen = address.prefix_length;
  head.ifa_scope = address.scope;
  head.ifa_index = static_cast<uint32_t>(index);
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, head);
  request.add(IFA_FLAGS, address.flags);
  if (!address.address.empty()) request.add(IFA_ADDRESS, address.address);
  if (!address.local.empty()) request.add(IFA_LOCAL, address.local);
  if (!address.broadcast.empty()) request.add(IFA_BROADCAST, address.broadcast);
  FLUYT_TRY(ask(request, cat("RTM_NEWADDR(device ", index, ")")));
  return {};
}

Result<> Netlink::move_link(int index, FdRef network, const std::string& name) {
  ifinfomsg head{};
  head.ifi_index = index;
  Request request(RTM_NEWLINK, 0, head);
  request.add_name(IFLA_IFNAME, name);
  request.add(IFLA_NET_NS_FD, static_cast<uint32_t>(network.raw()));
  FLUYT_TRY(
      ask(request, cat("RTM_NEWLINK(device ", index, ", to a namespace as ", quote(name), ")")));
  return {};
}

Result<> Netlink::set_up(int index) {
  ifinfomsg head{};
  head.ifi_index = index;
  head.ifi_flags = IFF_UP;
  head.ifi_change = IFF_UP;
  Request request(RTM_NEWLINK, 0, head);
  FLUYT_TRY(ask(request, cat("RTM_NEWLINK(device ", index, ", up)")));
  return {};
}

}  // namespace fluyt::sys
