#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"
#include "cmd/runtime/store.h"
#include "oci/runtime_spec.h"
#include "sys/fd.h"
#include "sys/process.h"

/// sd_notify(3) for programs of a container: the service manager that started us and named
/// NOTIFY_SOCKET hears of them through us, since its socket is not to be seen in there.
namespace fluyt::commands {

/// Pure. What may be passed on of a message that somebody in the container sent: READY,
/// RELOADING, STOPPING, STATUS, ERRNO, BUSERROR, WATCHDOG=1, EXTEND_TIMEOUT_USEC and
/// MONOTONIC_USEC, a line each. Pids and descriptors of a container mean something else outside of
/// it.
std::string allowed_lines(std::string_view message);
/// Pure. Whether a line of it is READY=1.
bool says_ready(std::string_view message);

/// Between the container's socket and the manager's.
class NotifyRelay {
 public:
  /// Nothing where NOTIFY_SOCKET is not set. kInvalidArgument: it is neither a path nor "@name".
  static Result<std::optional<std::string>> manager();
  /// Before creation: a folder for the socket in the state folder, bound to /run/notify in there,
  /// and NOTIFY_SOCKET in the program's environment.
  static Result<> prepare(const Folder& folder, oci::Spec& spec);
  /// Before the program runs: from now on it is heard. Nothing where prepare() was not called.
  static Result<std::optional<NotifyRelay>> open(const Folder& folder, std::string manager);

  sys::FdRef fd() const { return socket_; }
  /// Reads one message, and passes on what may be. True when it said READY=1.
  bool pass();
  /// For who does not stay: passes on until the container says READY=1 or ends, then names
  /// `process` as the service's main process, and waits until the manager has seen to that, 30 s at
  /// most. kCancelled where `stop` can be read first.
  Result<> pass_until_ready(const sys::Process& process, sys::FdRef stop = {});

 private:
  NotifyRelay(sys::Fd socket, std::string manager)
      : socket_(std::move(socket)), manager_(std::move(manager)) {}
  void say(std::string_view text, sys::FdRef with = {}) const;
  sys::Fd socket_;
  std::string manager_;
};

}  // namespace fluyt::commands
