#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string_view>
#include <thread>

#include "base/guarded.h"
#include "base/strings.h"
#include "sys/file.h"
#include "sys/netlink.h"
#include "sys/netlink_message.h"

namespace fluyt::sys {

namespace {

using netlink_bytes::aligned;
using netlink_bytes::value_at;

constexpr size_t kBuffer = 32768;

// Hears of every change of devices in the calling thread's network namespace.
Result<Fd> open_listener() {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!socket.valid()) return Error::from_errno(errno, "socket(AF_NETLINK, NETLINK_ROUTE)");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  if (::bind(socket.raw(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, "bind(AF_NETLINK, RTMGRP_LINK)");
  return socket;
}

// A bridge tells of its ports in its own family: there it leaves the bridge alone.
bool says_gone(std::string_view packet, int index) {
  for (size_t at = 0; at + sizeof(nlmsghdr) <= packet.size();) {
    const auto head = value_at<nlmsghdr>(packet, at);
    if (head.nlmsg_len < sizeof head || at + head.nlmsg_len > packet.size()) return false;
    const auto info = value_at<ifinfomsg>(packet, at + sizeof head);
    if (head.nlmsg_type == RTM_DELLINK && head.nlmsg_len >= sizeof head + sizeof info &&
        info.ifi_family == AF_UNSPEC && info.ifi_index == index)
      return true;
    at += aligned(head.nlmsg_len);
  }
  return false;
}

// Reads what has come. What was lost (ENOBUFS) is made up for by the answer.
bool heard_gone(FdRef listener, int index) {
  std::array<char, kBuffer> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): read into
  while (true) {
    const ssize_t got = ::recv(listener.raw(), buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    if (says_gone({buffer.data(), static_cast<size_t>(got)}, index)) return true;
  }
}

}  // namespace

Result<> Netlink::remove_link_here(int index) {
  const Fd listener = FLUYT_TRY(open_listener());
  Netlink asker = FLUYT_TRY(open());
  Pipe answered = FLUYT_TRY(make_pipe());
  const auto outcome = std::make_shared<Guarded<Result<>>>();
  std::thread([asker = std::move(asker), end = std::move(answered.write), outcome,
               index]() mutable {
    auto done = asker.delete_link(index);
    *outcome->lock() = std::move(done);
    end.reset();
  }).detach();
  std::array<pollfd, 2> waits = {pollfd{.fd = listener.raw(), .events = POLLIN, .revents = 0},
                                 pollfd{.fd = answered.read.raw(), .events = POLLIN, .revents = 0}};
  while (true) {
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR)
      return Error::from_errno(errno, "poll(netlink)");
    if ((waits[0].revents & POLLIN) != 0 && heard_gone(listener, index)) return {};
    if (waits[1].revents != 0) return std::move(*outcome->lock());
    // An error of the listener would be ready for ever: the answer is to come.
    if ((waits[0].revents & ~POLLIN) != 0) waits[0].fd = -1;
  }
}

}  // namespace fluyt::sys
