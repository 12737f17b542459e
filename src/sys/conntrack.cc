#include "sys/conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include "sys/fd.h"
#include "sys/netlink_message.h"

namespace fluyt::sys {

namespace {

using netlink_bytes::aligned;
using netlink_bytes::find_attribute;
using netlink_bytes::value_at;

constexpr size_t kBuffer = 32768;

template <class T>
void append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// One request about conntrack, with attributes that are aligned already.
std::string message(uint16_t command, uint16_t flags, uint8_t family, std::string_view attributes) {
  nlmsghdr head{};
  nfgenmsg about{};
  head.nlmsg_len = static_cast<uint32_t>(sizeof head + sizeof about + attributes.size());
  head.nlmsg_type = static_cast<uint16_t>((NFNL_SUBSYS_CTNETLINK << 8U) | command);
  head.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  about.nfgen_family = family;
  about.version = NFNETLINK_V0;
  std::string out;
  append(out, head);
  append(out, about);
  out += attributes;
  return out;
}

std::string attribute(uint16_t type, std::string_view bytes) {
  nlattr head{};
  head.nla_len = static_cast<uint16_t>(sizeof head + bytes.size());
  head.nla_type = type;
  std::string out;
  append(out, head);
  out += bytes;
  out.resize(aligned(out.size()));
  return out;
}

bool goes_to(std::string_view original, uint8_t protocol, uint16_t port) {
  const std::string_view proto = find_attribute(original, CTA_TUPLE_PROTO);
  const std::string_view number = find_attribute(proto, CTA_PROTO_NUM);
  const std::string_view destination = find_attribute(proto, CTA_PROTO_DST_PORT);
  return number.size() == 1 && value_at<uint8_t>(number, 0) == protocol &&
         destination.size() == sizeof port && ntohs(value_at<uint16_t>(destination, 0)) == port;
}

// Sends one request and gives the attributes of each answer to `take`, until the kernel is done.
template <class Take>
Result<> ask(const Fd& socket, const std::string& request, const char* what, Take take) {
  if (::send(socket.raw(), request.data(), request.size(), 0) < 0) {
    return Error::from_errno(errno, what);
  }
  std::array<char, kBuffer> buffer{};
  while (true) {
    const ssize_t got = ::recv(socket.raw(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, what);
    const std::string_view all(buffer.data(), static_cast<size_t>(got));
    size_t at = 0;
    while (at + sizeof(nlmsghdr) <= all.size()) {
      const auto head = value_at<nlmsghdr>(all, at);
      if (head.nlmsg_len < sizeof head || at + head.nlmsg_len > all.size()) break;
      const std::string_view body = all.substr(at + sizeof head, head.nlmsg_len - sizeof head);
      at += aligned(head.nlmsg_len);
      if (head.nlmsg_type == NLMSG_DONE) return {};
      if (head.nlmsg_type == NLMSG_ERROR) {
        const int error = -value_at<int>(body, 0);
        if (error == 0) return {};
        return Error::from_errno(error, what);
      }
      if (body.size() > sizeof(nfgenmsg)) take(body.substr(sizeof(nfgenmsg)));
    }
  }
}

}  // namespace

Result<> forget_flows(uint8_t family, uint8_t protocol, uint16_t port) {
  const Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER));
  if (!socket.valid()) return Error::from_errno(errno, "socket(AF_NETLINK, NETLINK_NETFILTER)");
  std::vector<std::string> flows;
  const std::string list = message(IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, "");
  FLUYT_TRY(ask(socket, list, "IPCTNL_MSG_CT_GET", [&](std::string_view attributes) {
    const std::string_view original = find_attribute(attributes, CTA_TUPLE_ORIG);
    if (!goes_to(original, protocol, port)) return;
    std::string flow = attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, original);
    const std::string_view zone = find_attribute(attributes, CTA_ZONE);
    if (!zone.empty()) flow += attribute(CTA_ZONE, zone);
    flows.push_back(std::move(flow));
  }));
  for (const std::string& flow : flows) {
    const std::string request = message(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family, flow);
    auto deleted = ask(socket, request, "IPCTNL_MSG_CT_DELETE", [](std::string_view) {});
    if (!deleted.ok() && deleted.error().errno_value() != ENOENT) return deleted;
  }
  return {};
}

}  // namespace fluyt::sys
