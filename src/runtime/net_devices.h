#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/netlink.h"

/// linux.netDevices (config-linux.md, "Network Devices"): devices of the caller's network namespace
/// go to the container's, under the same or another name, with their permanent global addresses,
/// and are set up there. They are not fetched back when the container ends: that is the kernel's.
/// They are given back when it does not come to be. Single-threaded programs only.
namespace fluyt::runtime {

struct NetDevicePlan {
  std::string host_name;
  std::string name;  // in the container; "%d" in it stands for a free number
  bool operator==(const NetDevicePlan&) const = default;
};

class NetDevices {
 public:
  NetDevices() = default;
  NetDevices(const NetDevices&) = delete;
  NetDevices& operator=(const NetDevices&) = delete;
  /// Gives everything back unless keep() was called.
  ~NetDevices();
  /// On an error what was moved before is given back at the end of our life.
  Result<> move(const std::vector<NetDevicePlan>& plan, sys::Fd network);
  void keep() { moved_.clear(); }

 private:
  struct Moved {
    std::string host_name;
    int index = 0;  // in the container's namespace
    bool was_up = false;
    std::vector<sys::LinkAddress> addresses;
  };
  Result<> move_one(const NetDevicePlan& device, sys::Netlink& here, sys::Netlink& there);
  Result<> give_back(const Moved& moved);
  sys::Fd network_;  // the container's
  std::vector<Moved> moved_;
};

/// What of a device's addresses goes with it: permanent ones of global scope. Pure.
std::vector<sys::LinkAddress> kept_addresses(const std::vector<sys::LinkAddress>& addresses);

}  // namespace fluyt::runtime
