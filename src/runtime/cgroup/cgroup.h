#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "oci/runtime_spec.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::runtime {

/// A scope that systemd keeps for us.
struct SystemdUnit {
  std::string name;   // "runf-4f2a.scope"
  std::string slice;  // "system.slice"
  bool user = false;  // of the user's own instance of systemd
  bool operator==(const SystemdUnit&) const = default;
};

/// Where a container's cgroup lies: absolute paths of directories, one a v1 controller (co-mounted
/// controllers share a directory), or the one v2 directory. On a hybrid host `unified` is a
/// directory in the v2 hierarchy at the same path, used for kill, freeze, emptiness and the
/// controllers that live there.
struct CgroupRecord {
  std::string unified;  // empty on pure v1
  std::vector<std::pair<std::string, std::string>>
      legacy;                            // v1 controller to directory; empty on v2
  std::optional<SystemdUnit> unit = {};  // whose scope it is, with the systemd driver
  bool operator==(const CgroupRecord&) const = default;
};

}  // namespace fluyt::runtime

/// Control groups: v2, v1 and hybrid, one interface. Everything here is blocking and may be called
/// from any thread; nothing is kept between calls. Errors name the field of the spec where one
/// asked.
namespace fluyt::runtime::cgroup {

/// What this host mounts. A value, so that a pure v1 host can be imitated by clearing `unified`.
struct Host {
  struct Legacy {
    std::string mount_point;
    std::vector<std::string> controllers;  // "cpu", "cpuacct"; "name=systemd" for a named one
  };
  std::string unified;                   // mount point of the v2 hierarchy; empty on pure v1
  std::vector<std::string> controllers;  // that the v2 hierarchy offers
  std::vector<Legacy> legacy;            // v1 mounts; empty on pure v2

  /// The mount point of a v1 controller, nullptr when it is not mounted.
  const std::string* find_legacy(std::string_view controller) const;
  bool hybrid() const { return !unified.empty() && !legacy.empty(); }
};
/// Asks the kernel: the file system at /sys/fs/cgroup, and /proc/self/mountinfo unless that is v2.
Result<Host> probe();
/// The pure part of probe(): the text of mountinfo and what cgroup.controllers of the v2 root says.
Result<Host> parse_mounts(std::string_view mountinfo, std::string_view unified_controllers);

/// Who makes and keeps cgroups.
enum class Driver { kCgroupfs, kSystemd };
/// Whose form a linux.cgroupsPath has that is not empty: systemd's is slice:prefix:name, without a
/// slash in front.
Driver driver_of(std::string_view cgroups_path);
/// kFailedPrecondition where the driver does not work: systemd does not answer.
Result<> check_driver(Driver driver);

/// Where the cgroup of container `id` shall be, without making anything. `cgroups_path` is
/// linux.cgroupsPath. With cgroupfs absolute is below the root of each hierarchy, relative below
/// /fluyt, empty is /fluyt/<id>; `..`, control characters, the root itself and systemd's form are
/// refused. With systemd it is slice:prefix:name, for the scope prefix-name.scope in that slice; an
/// empty slice is system.slice (user.slice for a user's own systemd), and an empty path
/// :runf:<id>.
Result<CgroupRecord> locate(const Host& host, std::string_view cgroups_path, std::string_view id,
                            Driver driver = Driver::kCgroupfs);

/// systemd removes a scope's cgroup, with all that it has counted, the moment no process is left in
/// it: this is a process of ours, asleep in there, for as long as it lives. Empty for cgroupfs.
class Hold {
 public:
  Hold() = default;
  explicit Hold(sys::Process sleeper) : sleeper_(std::move(sleeper)) {}
  Hold(Hold&&) noexcept = default;
  Hold& operator=(Hold&& other) noexcept;
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() { release(); }
  void release();
  pid_t pid() const { return sleeper_.pid(); }  // -1 when empty
  /// Leaves it to the caller, whose child it is, to end and to reap. 0 when empty.
  pid_t detach();

 private:
  sys::Process sleeper_;
};

enum class Part { kAll, kUnified, kLegacy };

/// Makes the directories of locate() with their parents: cpuset values copied down on v1,
/// controllers enabled down the path on v2. A controller that `resources` needs and that the host
/// lacks is kFailedPrecondition naming the field. A leaf that holds processes already, itself or in
/// cgroups below, is kAlreadyExists. On an error what was made is removed again.
/// `part`: with cgroupfs the v2 directory may be made first, for a process to be born in, and the
/// others while that sets itself up; an error of the second leaves what the first has made.
/// With the systemd driver systemd starts the scope (Delegate=yes), with the properties that
/// `annotations` ask for (org.systemd.property.NAME); the hold is to be kept until the container's
/// first process is in.
Result<Hold> make(const Host& host, const CgroupRecord& record, const oci::Resources& resources,
                  const std::map<std::string, std::string>& annotations = {},
                  Part part = Part::kAll);
/// Keeps the scope of a container that runs from going before its figures were read. Only as long
/// as somebody wants to read them: the sleeper counts as one of the cgroup's processes.
Result<Hold> hold(const CgroupRecord& record);

/// Gives a v2 cgroup to `uid` (the container's root): the directory and the files that the kernel
/// lists in /sys/kernel/cgroup/delegate. Only for a new cgroup namespace with a writable mount.
Result<> delegate(const CgroupRecord& record, uid_t uid);

/// Writes every limit of `resources`, and always the device rules: everything is denied first, then
/// come linux.resources.devices in order, then the devices that every container has (null, zero,
/// full, random, urandom, tty, ptmx, pts/*) and the making of any node (as runc does). Not rolled
/// back: the caller removes the cgroup. Some limits can refuse the container's own processes
/// (pids.limit 0 or 1): join() works under them, clone(2) with CLONE_INTO_CGROUP does not.
Result<> apply(const CgroupRecord& record, const oci::Resources& resources);

/// Writes the limits that are set in `resources`, all or nothing: on an error the old values are
/// put back. Device rules are touched only when there are any.
Result<> update(const CgroupRecord& record, const oci::Resources& resources);

/// What apply() and update() leave out because systemd's units cannot hold it, for the log; empty
/// when there is nothing.
std::string left_out(const CgroupRecord& record, const oci::Resources& resources);

/// Moves a process (all of its threads) into every hierarchy of the cgroup. `beside`, when not 0,
/// is the container's init: where the v2 cgroup refuses processes because it has children with
/// controllers (EBUSY), the process joins init's own cgroup if that lies below; where the cgroup is
/// gone, wherever init is.
Result<> join(const CgroupRecord& record, pid_t pid, pid_t beside = 0);

/// The ways into a cgroup on which nobody waits. To move a process, or all threads of one's own,
/// takes a lock that waits until every CPU was idle or switched once (an RCU grace period, 7 ms on
/// two idle CPUs). To be born in a v2 cgroup takes none, nor does a thread that moves itself alone
/// on v1 (since Linux 5.18).
struct Ways {
  sys::Fd unified;             // the v2 directory, for CLONE_INTO_CGROUP; invalid on pure v1
  std::vector<sys::Fd> tasks;  // `tasks` of each v1 directory: regular files, which lead nowhere
};
Result<Ways> open_ways(const CgroupRecord& record);
/// Takes the calling process, which has one thread, through Ways::tasks.
Result<> enter(const std::vector<sys::Fd>& tasks);

/// A cgroup for a process of ours, without limits, and the ways into it.
struct Own {
  CgroupRecord record;
  Ways ways;
  Hold hold;  // of a scope: to be kept until the process is in
  /// Ends what is in it; for when the process did not come to be.
  void remove() const;
};
/// Makes `path` (as locate() takes it); nothing for an empty one. `announce` hears of it before it
/// is made, so that it can be found by whoever cleans up; its error is the answer.
Result<Own> make_own(std::string_view path, std::string_view id,
                     const std::function<Result<>(const CgroupRecord&)>& announce = {});

/// join() of a cgroup below the container's (`exec --cgroup`): `path` is relative to it, resolved
/// on descriptors and never above it.
Result<> join_below(const CgroupRecord& record, std::string_view path, pid_t pid);
/// The same for single v1 controllers, each with a path of its own; the others get the container's.
Result<> join_below_each(const CgroupRecord& record,
                         const std::map<std::string, std::string>& paths, pid_t pid);

/// Every process in the cgroup and below, sorted; none when the cgroup is gone.
Result<std::vector<pid_t>> pids(const CgroupRecord& record);
/// SIGKILL to every process, fork bombs too, and waits for the cgroup to be empty:
/// cgroup.kill, or freezer and pidfds in rounds on pure v1. kDeadlineExceeded when some are left.
/// Frozen ones are thawed. Absent is success.
Result<> kill_all(const CgroupRecord& record, Deadline deadline);
/// A container's first process, as a mark on its cgroup names it.
struct Init {
  pid_t pid = 0;
  uint64_t start_time = 0;
};
/// Writes on the cgroup whose it is (an extended attribute of one of its directories), in place of
/// what a container that had it before has written. Without a word where the kernel has none.
void mark(const CgroupRecord& record, const Init& init);
/// Whether the last one to mark it was this container: what is in there is its own, then. Where the
/// container's first process has ended, nothing else tells: once its cgroup is empty, another may
/// be made there.
bool is_marked(const CgroupRecord& record, const Init& init);
/// A directory below that another container has marked; empty: none, or nothing is marked.
std::string find_other_below(const CgroupRecord& record, const Init& init);
/// Waits until no process is left: by event on v2 and hybrid, with a bounded back-off on pure v1.
Result<> wait_empty(const CgroupRecord& record, Deadline deadline);
/// Waits for emptiness, then removes the cgroup with its children in every hierarchy. Absent is
/// success. One rmdir(2) a hierarchy where it is empty at once.
Result<> remove(const CgroupRecord& record, Deadline deadline);
/// kill_all() and remove(), the first only where it is needed.
Result<> end(const CgroupRecord& record, Deadline deadline);

/// Returns once every process stands still. kDeadlineExceeded thaws again.
Result<> freeze(const CgroupRecord& record, Deadline deadline);
Result<> thaw(const CgroupRecord& record);
Result<bool> frozen(const CgroupRecord& record);

}  // namespace fluyt::runtime::cgroup
