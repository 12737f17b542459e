#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/dbus/connection.h"
#include "runtime/cgroup/systemd_properties.h"

/// What we ask of systemd, over D-Bus.
namespace fluyt::runtime::cgroup::systemd {

/// How long systemd may take for a job; runc waits as long.
inline constexpr int64_t kPatienceMs = 30'000;

/// The part of a trace that is a wait for it.
inline constexpr std::string_view kSpan = "systemd (D-Bus)";

/// A connection to an instance of systemd.
class Manager {
 public:
  enum class Instance { kSystem, kUser };
  /// The system's over its own socket, or else the system bus; a user's over the socket in
  /// XDG_RUNTIME_DIR, or else the session bus. kFailedPrecondition when there is neither.
  static Result<Manager> connect(Instance instance, Deadline deadline);

  int version() const { return version_; }
  /// The cgroup of this instance itself: "/user.slice/.../user@1000.service"; "" for the system's.
  Result<std::string> control_group(Deadline deadline);

  /// What systemd does when the kernel killed a process of the scope for its memory: nothing, or
  /// kill the others too (memory.oom.group).
  enum class OomPolicy { kContinue, kKill };

  /// Starts a scope with the process in it, and returns when it is there. A failed unit of that
  /// name is cleared away first; one that lives is kAlreadyExists.
  Result<> start_scope(const SystemdUnit& unit, pid_t process, OomPolicy policy,
                       const std::vector<Property>& properties, Deadline deadline);
  /// All of them or none, until the unit goes. Returns when systemd has written them to the cgroup.
  Result<> set_properties(const SystemdUnit& unit, const std::vector<Property>& properties,
                          Deadline deadline);
  /// Stops a unit and forgets that it failed. Absent is success.
  Result<> stop(const SystemdUnit& unit, Deadline deadline);

 private:
  explicit Manager(dbus::Connection connection) : connection_(std::move(connection)) {}
  Result<std::string> text_property(std::string path, std::string_view interface,
                                    std::string_view name, Deadline deadline);
  /// Waits for the job in the reply; its result, "done" when all went well.
  Result<std::string> wait_job(const dbus::Message& reply, Deadline deadline);
  Result<dbus::Message> call_start(const SystemdUnit& unit, const std::vector<Property>& properties,
                                   Deadline deadline);
  Result<> reset_failed(const SystemdUnit& unit, Deadline deadline);

  dbus::Connection connection_;
  int version_ = 0;
};

inline Manager::Instance instance_of(const SystemdUnit& unit) {
  return unit.user ? Manager::Instance::kUser : Manager::Instance::kSystem;
}

}  // namespace fluyt::runtime::cgroup::systemd
