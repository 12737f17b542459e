#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>

#include "base/strings.h"
#include "network/network.h"
#include "sys/file.h"

namespace fluyt::network {

namespace {

// Of a thread that is about to end: setns(2) changes the caller for good.
Result<> up_in(const sys::Fd& netns) {
  if (::setns(netns.raw(), CLONE_NEWNET) != 0)
    return Error::from_errno(errno, "setns(CLONE_NEWNET)");
  const sys::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno(errno, "socket(AF_INET, SOCK_DGRAM)");
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  if (::ioctl(socket.raw(), SIOCGIFFLAGS, &request) != 0) {
    return Error::from_errno(errno, "ioctl(SIOCGIFFLAGS, lo)");
  }
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (::ioctl(socket.raw(), SIOCSIFFLAGS, &request) != 0) {
    return Error::from_errno(errno, "ioctl(SIOCSIFFLAGS, lo up)");
  }
  return {};
}

}  // namespace

Result<> loopback_up(const std::string& netns_path) {
  const sys::Fd netns = FLUYT_TRY(sys::open(netns_path, O_RDONLY));
  std::optional<Result<>> result;
  std::thread([&] { result = up_in(netns); }).join();
  FLUYT_TRY_CONTEXT(std::move(*result), quote(netns_path, 512));
  return {};
}

}  // namespace fluyt::network
