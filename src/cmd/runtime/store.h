#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "cmd/runtime/packed/packed.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/fd.h"

namespace fluyt::commands {

/// What a runtime knows of a container between its commands: state.json in the container's state
/// folder.
struct Record {
  std::string id;
  std::string bundle;
  std::string rootfs;
  pid_t pid = 0;
  uint64_t start_time = 0;
  std::string boot_id;
  std::string created;  // RFC 3339
  uid_t owner = 0;
  std::map<std::string, std::string> annotations;
  runtime::CgroupRecord cgroup;
  uint64_t root_mount = 0;  // see runtime::Created
  /// Where its first three descriptors came from, as a checkpoint names them; none with a terminal.
  std::vector<std::string> descriptors;
  bool no_new_keyring = false;  // also for what is executed in it later
};

enum class Status { kCreating, kCreated, kRunning, kPaused, kStopped };
std::string_view status_name(Status status);

/// The state folder of one container: ROOT/ID, with state.json, config.json (the bundle's, as it
/// was) and, until it is started, the FIFOs of its gate.
class Folder {
 public:
  /// kAlreadyExists when the id is taken.
  static Result<Folder> make(const std::string& root, const std::string& id);
  /// kNotFound: `container "x" does not exist`.
  static Result<Folder> open(const std::string& root, const std::string& id);

  /// Before anything of the container runs, and again whenever what is to be ended with it is
  /// another process. It shows as being created until made().
  Result<> save_unfinished(const Record& record) const;
  Result<> made() const;
  Result<Record> load() const;
  /// Of a container whose creation was cut short, or is under way.
  std::optional<Record> find_unfinished() const;
  Result<> save_config(std::string_view text) const;
  Result<oci::Spec> load_config() const;
  /// After save_config() and save_unfinished(): what an exec needs of both, to be read without
  /// parsing.
  Result<> save_packed(const Record& record, const oci::Spec& spec) const;
  /// Nothing unless it is there and both files are still those that it was made of.
  std::optional<Packed> find_packed() const;
  /// For a runtime that pauses containers without freezing their cgroups.
  Result<> mark_paused(bool paused) const;
  bool is_marked_paused() const;
  /// One at a time: start, delete, pause, resume, checkpoint. Held until unlock() or the end of the
  /// folder object. kDeadlineExceeded: another command holds it; kNotFound: the container was
  /// deleted since the folder was opened, and its name may be another's by now.
  Result<> lock(Deadline deadline = Deadline::after_ms(kLockMs));
  void unlock();
  static constexpr int64_t kLockMs = 10'000;
  /// Whether the container's name still leads to this folder. While it is locked that stays so.
  bool is_named() const;
  /// Nothing is done where the name leads to another. For who has the lock.
  Result<> remove() const;
  /// The same, with the lock, of one whose container did not come to be.
  void give_up();
  /// False where it is in memory: what it names is of this boot, then.
  bool outlives_boot() const;

  struct Gate {
    sys::Fd gate;  // opened for both ends, so that it never sees end of file
    sys::Fd report;
  };
  Result<Gate> make_gate() const;
  bool has_gate() const;
  /// Lets the first process go. What it says is for wait_executed().
  Result<sys::Fd> open_gate() const;
  /// Returns when the program was executed, or with the reason why not.
  static Result<> wait_executed(sys::FdRef report);

  const std::string& path() const { return path_; }
  sys::FdRef fd() const { return fd_; }

 private:
  std::string id() const;
  Folder(std::string path, sys::Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  sys::Fd fd_;
};

/// Opens what lies in a state folder by a mount of it alone, that lies nowhere: who has the
/// descriptor is not shown the folder's path. Where mounts are not to be had, as it lies there.
Result<sys::Fd> open_nameless(sys::FdRef folder, const char* name, int flags);

/// How the container's first process is known again.
struct Running {
  pid_t pid = 0;
  uint64_t start_time = 0;
  std::string_view boot_id;
  const runtime::CgroupRecord& cgroup;
};
/// From the kernel: whether the first process lives, waits at the gate, is frozen.
Result<Status> status_of(const Folder& folder, const Running& running);
Result<Status> status_of(const Folder& folder, const Record& record);
/// Ids in `root`, sorted. kNotFound when there is no such folder.
Result<std::vector<std::string>> list_ids(const std::string& root);
/// Those that an extended regular expression matches, wherever in the id.
Result<std::vector<std::string>> matching_ids(const std::string& root, const std::string& pattern);

}  // namespace fluyt::commands
