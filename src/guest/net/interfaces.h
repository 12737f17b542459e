#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "guest/net/address.h"

namespace fluyt::guest {

class Network;
struct Caller;

/// A network device as programs see it; nothing of it can be changed from inside.
struct Interface {
  int index = 1;
  std::string name;
  uint32_t flags = 0;  // IFF_*
  uint32_t mtu = 65536;
  uint16_t kind = 772;  // ARPHRD_*; loopback
  std::array<uint8_t, 6> hardware{};
  struct Address {
    Endpoint at;
    uint8_t prefix = 0;  // bits
  };
  std::vector<Address> addresses;
};
struct Route {
  Endpoint to;
  uint8_t prefix = 0;  // bits; of IPv4 without the mapping's 96
  Endpoint gateway;    // unspecified: none
  int index = 1;
  uint32_t metric = 0;
};

/// lo with its addresses: what there is without a network.
Interface loopback();

/// SIOCGIF*: netdevice(7). ENOTTY when it is something else.
ErrnoOr<uint64_t> interface_ioctl(const Network& network, Caller& caller, uint32_t request,
                                  uint64_t argument);

/// The files of /proc/net: their names, and what one says now.
std::vector<std::string> proc_net_names();
std::string proc_net_text(Network& network, const std::string& name);

}  // namespace fluyt::guest
