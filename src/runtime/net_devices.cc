#include "runtime/net_devices.h"

#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::runtime {

namespace {

// How an address was made, which is asked for again; the others are the kernel's to find out.
constexpr uint32_t kAskedFlags =
    IFA_F_NODAD | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN;

Result<> add_all(sys::Netlink& netlink, int index, const std::vector<sys::LinkAddress>& addresses) {
  for (const sys::LinkAddress& address : addresses) {
    auto added = netlink.add_address(index, address);
    if (!added.ok() && added.error().errno_value() != EEXIST) return added;
  }
  return {};
}

}  // namespace

std::vector<sys::LinkAddress> kept_addresses(const std::vector<sys::LinkAddress>& addresses) {
  std::vector<sys::LinkAddress> kept;
  for (const sys::LinkAddress& address : addresses) {
    if ((address.flags & IFA_F_PERMANENT) == 0 || address.scope != RT_SCOPE_UNIVERSE) continue;
    kept.push_back(address);
    kept.back().flags &= kAskedFlags;
  }
  return kept;
}

NetDevices::~NetDevices() {
  for (auto moved = moved_.rbegin(); moved != moved_.rend(); ++moved) {
    give_back(*moved).ignore("the error that led here is the one to tell");
  }
}

Result<> NetDevices::move(const std::vector<NetDevicePlan>& plan, sys::Fd network) {
  network_ = std::move(network);
  const struct stat theirs = FLUYT_TRY(sys::stat_of(network_));
  const sys::Fd own = FLUYT_TRY(sys::open("/proc/thread-self/ns/net", O_RDONLY));
  const struct stat ours = FLUYT_TRY(sys::stat_of(own));
  if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino) {
    return Error(Code::kInvalidArgument,
                 "linux.netDevices: the container's network namespace is the host's");
  }
  sys::Netlink here = FLUYT_TRY(sys::Netlink::open());
  sys::Netlink there = FLUYT_TRY(sys::Netlink::open_in(network_));
  for (const NetDevicePlan& device : plan) {
    FLUYT_TRY_CONTEXT(move_one(device, here, there),
                      cat("linux.netDevices[", quote(device.host_name), "]"));
  }
  return {};
}

Result<> NetDevices::move_one(const NetDevicePlan& device, sys::Netlink& here,
                              sys::Netlink& there) {
  const auto link = FLUYT_TRY(here.find_link(device.host_name));
  if (!link) {
    return Error(Code::kNotFound, "no such device in the network namespace of the runtime");
  }
  std::set<int> before;
  for (const sys::Link& other : FLUYT_TRY(there.links())) {
    if (other.name == device.name) {
      return Error(Code::kAlreadyExists,
                   cat("name: ", quote(device.name),
                       ": the container's network namespace has a device of this name"));
    }
    before.insert(other.index);
  }
  // Read before it moves: the kernel takes them all away then.
  auto addresses = kept_addresses(FLUYT_TRY(here.addresses(link->index)));
  Moved moved{.host_name = device.host_name,
              .index = 0,
              .was_up = link->up,
              .addresses = std::move(addresses)};
  auto asked = here.move_link(link->index, network_, device.name);
  // It may have moved and kept its name all the same.
  const std::vector<sys::Link> after = FLUYT_TRY(there.links());
  const auto arrived = std::find_if(after.begin(), after.end(), [&](const sys::Link& one) {
    return !before.contains(one.index);
  });
  if (arrived != after.end()) {
    moved.index = arrived->index;
    moved_.push_back(moved);
  }
  FLUYT_TRY(std::move(asked));
  if (arrived == after.end()) return Error(Code::kInternal, "the device is nowhere to be found");
  FLUYT_TRY(add_all(there, moved.index, moved.addresses));
  return there.set_up(moved.index);
}

Result<> NetDevices::give_back(const Moved& moved) {
  sys::Netlink there = FLUYT_TRY(sys::Netlink::open_in(network_));
  const sys::Fd own = FLUYT_TRY(sys::open("/proc/thread-self/ns/net", O_RDONLY));
  FLUYT_TRY(there.move_link(moved.index, own, moved.host_name));
  sys::Netlink here = FLUYT_TRY(sys::Netlink::open());
  const auto link = FLUYT_TRY(here.find_link(moved.host_name));
  if (!link) return Error(Code::kNotFound, "the device did not come back");
  FLUYT_TRY(add_all(here, link->index, moved.addresses));
  return moved.was_up ? here.set_up(link->index) : Result<>();
}

}  // namespace fluyt::runtime
