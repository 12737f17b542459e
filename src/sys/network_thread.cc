#include "sys/network_thread.h"

#include <sched.h>

#include <cerrno>
#include <thread>

namespace fluyt::sys {

Result<> in_network(FdRef network, const std::function<Result<>()>& body) {
  Result<> result;
  std::thread([&] {
    if (::setns(network.raw(), CLONE_NEWNET) != 0) {
      result = Error::from_errno(errno, "setns(CLONE_NEWNET)");
    } else {
      result = body();
    }
  }).join();
  return result;
}

}  // namespace fluyt::sys
