#include <fcntl.h>
#include <sched.h>

#include <cerrno>
#include <optional>
#include <thread>

#include "base/strings.h"
#include "network/network.h"
#include "sys/file.h"
#include "sys/netlink.h"

namespace fluyt::network {

namespace {

// Of a thread that is about to end: setns(2) changes the caller for good.
Result<std::vector<sys::Link>> links_in(const sys::Fd& netns) {
  if (::setns(netns.raw(), CLONE_NEWNET) != 0)
    return Error::from_errno(errno, "setns(CLONE_NEWNET)");
  sys::Netlink netlink = FLUYT_TRY(sys::Netlink::open());
  return netlink.links();
}

}  // namespace

Result<std::vector<InterfaceTraffic>> traffic(const std::string& netns_path) {
  const sys::Fd netns = FLUYT_TRY(sys::open(netns_path, O_RDONLY));
  std::optional<Result<std::vector<sys::Link>>> links;
  std::thread([&] { links = links_in(netns); }).join();
  std::vector<InterfaceTraffic> out;
  for (const sys::Link& link : FLUYT_TRY_CONTEXT(std::move(*links), quote(netns_path, 512))) {
    if (link.name == "lo") continue;
    const sys::LinkCounters& counted = link.counters;
    out.push_back({.name = link.name,
                   .rx_bytes = counted.rx_bytes,
                   .rx_packets = counted.rx_packets,
                   .rx_errors = counted.rx_errors,
                   .rx_dropped = counted.rx_dropped,
                   .tx_bytes = counted.tx_bytes,
                   .tx_packets = counted.tx_packets,
                   .tx_errors = counted.tx_errors,
                   .tx_dropped = counted.tx_dropped});
  }
  return out;
}

}  // namespace fluyt::network
