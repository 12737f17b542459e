#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

/// What fluytd and the service manager that started it (systemd) say to each other: sd_notify(3),
/// sd_listen_fds(3) and sd_watchdog_enabled(3), which come down to a datagram and some variables.
namespace fluyt::daemon {

class ServiceManager {
 public:
  /// What the environment says, which is emptied of it: no program that we start may believe that
  /// it was meant. Called once, before there are threads. An error is a variable that makes no
  /// sense.
  static Result<ServiceManager> from_environment();

  /// Nothing is lost when nobody listens: without a manager these do nothing.
  void ready(std::string_view status) const;
  void reloading() const;  // ready() ends it
  void stopping() const;
  void alive() const;

  /// How often alive() has to be said at the latest; nothing: nobody waits for it.
  std::optional<int64_t> watchdog_ms() const { return watchdog_ms_; }

  /// The socket that listens at `path`, if the manager has made it (socket activation): invalid
  /// otherwise. kFailedPrecondition when sockets were handed over and none is it.
  Result<sys::Fd> take_listener(const std::string& path);

 private:
  void say(std::string_view text) const;

  std::string socket_;
  std::optional<int64_t> watchdog_ms_;
  std::vector<sys::Fd> listeners_;
};

}  // namespace fluyt::daemon
