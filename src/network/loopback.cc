#include <fcntl.h>

#include "base/strings.h"
#include "network/network.h"
#include "sys/file.h"
#include "sys/netlink.h"
#include "sys/network_thread.h"

namespace fluyt::network {

Result<> loopback_up(const std::string& netns_path) {
  const sys::Fd netns = FLUYT_TRY(sys::open(netns_path, O_RDONLY));
  FLUYT_TRY_CONTEXT(sys::in_network(netns,
                                    []() -> Result<> {
                                      sys::Netlink netlink = FLUYT_TRY(sys::Netlink::open());
                                      return netlink.set_up(1);  // lo is always the first
                                    }),
                    quote(netns_path, 512));
  return {};
}

}  // namespace fluyt::network
