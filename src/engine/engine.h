#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "base/trace.h"
#include "engine/metrics.h"
#include "engine/model.h"
#include "engine/runtime_handler.h"
#include "image/image_store.h"
#include "monitor/client/client.h"
#include "network/network.h"
#include "sys/fd.h"
#include "sys/precedence.h"

/// The engine: sandboxes and containers, and what can be done with them. Every front end (CRI,
/// control, Docker) is a translation to these verbs.
namespace fluyt::engine {

/// Where SELinux is looked for; elsewhere in tests.
struct SelinuxPlaces {
  std::string selinuxfs = "/sys/fs/selinux";
  std::string policies = "/etc/selinux";
  std::string contexts = "/usr/share/containers/selinux/contexts";  // before a policy's own
  /// What the loaded policy makes of a label (engine/selinux.h); empty: selinuxfs/context says.
  std::function<Result<std::string>(const std::string& label)> canonical = {};
};

struct Options {
  std::string root;   // what outlives a reboot: the database
  std::string state;  // what does not: sandboxes' folders, below a tmpfs in production
  std::string logs;   // where front ends other than CRI keep containers' logs
  std::string monitor_program;
  std::string pod_init_program;
  CgroupDriver cgroup_driver = CgroupDriver::kCgroupfs;
  std::string default_cgroup_parent;  // of pods; empty: the driver's (cgroup_parent.h)
  std::vector<std::string> cdi_dirs = {"/etc/cdi", "/var/run/cdi"};  // the later wins
  /// One leaf, or one scope, a monitor: outside every pod's. Empty: the driver's.
  std::string monitor_cgroup_parent;
  std::vector<RuntimeHandler> handlers;                       // besides the linked one
  std::string default_handler = std::string(kLinkedHandler);  // what "" means
  bool selinux = true;  // new pods have labels, where the host has SELinux
  SelinuxPlaces selinux_places = {};
};

/// The parts that the engine drives. Owned by it.
struct Parts {
  std::unique_ptr<image::ImageStore> images;
  std::unique_ptr<network::Network> network;
  std::unique_ptr<monitor::Hub> hub;
  std::shared_ptr<sys::Precedence> precedence;  // for pulls to give way to; may be none
};

/// What a runtime handler can do.
struct HandlerStatus {
  std::string name;  // "" for the default
  bool recursive_readonly_mounts = false;
  bool user_namespaces = false;
};

struct HostStatus {
  bool runtime_ready = true;
  std::string runtime_reason;
  std::string runtime_message;
  network::Status network;
  std::vector<HandlerStatus> handlers;  // the default first
  bool user_namespaces = false;         // of pods: tried out at start, with roots; see handlers too
  std::string instance;                 // an id of this run of the engine
  /// What this host lacks, one sentence each (design rule: never silently).
  std::vector<std::string> lacks;
  /// Records that were set aside when they were loaded, with the reason.
  std::vector<std::string> set_aside;
};

struct ExecSyncRequest {
  std::string container_id;
  std::vector<std::string> command;
  int64_t timeout_ms = 0;  // 0: none
  /// Whether whoever asked has gone: looked at now and then, on the caller's thread. None: never.
  std::function<bool()> is_given_up;
};
inline constexpr size_t kMaxExecOutput = 16UL << 20U;
struct ExecSyncResult {
  int32_t exit_code = 0;
  std::string out;  // at most kMaxExecOutput each; the rest was read and dropped
  std::string err;
};

/// An exec whose streams the caller handles itself.
struct ExecOptions {
  std::vector<std::string> args;
  std::vector<EnvVar> envs;  // on top of the container's
  std::string cwd;           // empty: the container's
  std::string user;          // as image configs say it, "user[:group]"; empty: the container's
  bool terminal = false;
  bool with_stdin = false;
  uint16_t height = 0;  // of the terminal; 0: the kernel's default
  uint16_t width = 0;
};
/// What is at a path in a container's root.
struct FileStatus {
  enum class Kind { kFile, kDirectory, kLink, kOther } kind = Kind::kOther;
  uint64_t size = 0;  // bytes, of a file
  uint32_t mode = 0;  // permission bits
  int64_t mtime = 0;  // unix seconds
  std::string link;   // of a link: where it leads
};
enum class LastLink { kFollow, kKeep };
/// Bytes on their way to whoever asked; its error ends the call, and is the call's.
using ByteSink = std::function<Result<>(std::string_view)>;
struct ReadFiles {
  std::string path;
  std::string name;  // what it is called in the tar; empty: of a directory what lies in it, alone
  LastLink last_link = LastLink::kKeep;
};
struct WriteFiles {
  std::string folder;  // where the tar's names begin: a directory that is there
  enum class Owner { kRoot, kKept } owner = Owner::kRoot;  // the container's root, or the tar's ids
};

/// One running exec. Destroying it kills what still runs.
class ExecSession {
 public:
  virtual ~ExecSession() = default;
  sys::Fd in;  // our pipe ends; `in` is invalid without with_stdin
  sys::Fd out;
  sys::Fd err;
  sys::Fd
      console;  // with terminal, in place of the three: the pty's master (TIOCSWINSZ resizes it)
  /// The exit code (128 + signal), or nothing at the deadline.
  virtual Result<std::optional<int32_t>> wait(Deadline deadline) = 0;
  /// Becomes readable with the exit, for who polls; lives as long as the session.
  virtual Result<sys::FdRef> exit_fd() = 0;
  virtual Result<> kill(int signal) = 0;
};

using AttachRequest = monitor::AttachRequest;  // container_id may be a unique prefix

struct Event {
  enum class Kind {
    kSandboxReady,
    kSandboxStopped,
    kSandboxRemoved,
    kContainerCreated,
    kContainerStarted,
    kContainerStopped,
    kContainerRemoved,
    kImagePulled,
    kImageRemoved,
    kEnd,  // the engine ends: nothing is told after it
  } kind;
  int64_t time = 0;        // unix ns
  SandboxPtr sandbox;      // of sandbox and container events; the value after the event
  ContainerPtr container;  // of container events; of a removed one the last value
  /// Of sandbox and container events: the sandbox's containers as they were right after the event,
  /// the removed one no more among them.
  std::vector<ContainerPtr> containers;
  std::string image;  // of image events: its id
};
/// Gets events until it is destroyed: each one from then on, all listeners in the same order, which
/// is that in which things changed. `handler` is called from the engine's threads, which wait for
/// it: be short (put it in an EventQueue), never call back into the engine.
class Subscription {
 public:
  virtual ~Subscription() = default;
};

/// Whether the caller of a verb is not there any more to get its answer. Any thread.
using GivenUp = std::function<bool()>;

struct Finding;  // engine/finding.h
enum class Repair { kNo, kYes };

/// Thread-safe. Verbs block until they are done; those of one object are serialised, those of
/// different objects never wait for each other, and lists, stop, kill and reopen wait for no verb.
/// Every `id` may be a prefix that only one object has. Errors: an unknown id is kNotFound, a wrong
/// state kFailedPrecondition, both naming the object.
class Engine {
 public:
  /// Loads the records, adopts the monitors that live, ends what died without us, finishes or
  /// undoes half-done verbs and removes orphans.
  static Result<std::unique_ptr<Engine>> open(Options options, Parts parts, Logger& logger);
  /// Containers go on; nothing is stopped.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Sandboxes -----------------------------------------------------------------------------------
  /// The sandbox's id, ready. A repeated request (the same name) joins the one under way; once the
  /// sandbox exists it is kAlreadyExists, naming the id that has the name.
  /// One that was made for a caller that had `given_up` goes to who repeats the request.
  Result<std::string> run_sandbox(const SandboxConfig& config, const std::string& runtime_handler,
                                  const GivenUp& given_up = {});
  /// Kills its containers, detaches the network, ends the monitor. Unknown or stopped is success.
  Result<> stop_sandbox(const std::string& id);
  /// Stops it and forgets it with its containers. Unknown is success.
  Result<> remove_sandbox(const std::string& id);
  /// kInvalidArgument unless there is such a handler; "" is the default one.
  Result<> check_runtime_handler(const std::string& name) const;
  std::vector<SandboxPtr> list_sandboxes(const SandboxFilter& filter);
  /// Where the time of the last requests of a sandbox or container went, oldest first; of ones that
  /// are gone too, by their whole id, as long as they are kept.
  Result<std::vector<trace::Walk>> walks_of(const std::string& id);
  Result<SandboxPtr> get_sandbox(const std::string& id);
  /// Records what the pod as a whole was given; what is nothing stays as it was.
  Result<> update_sandbox(const std::string& id, const std::optional<Resources>& overhead,
                          const std::optional<Resources>& resources);

  // Containers ----------------------------------------------------------------------------------
  /// As run_sandbox, with the name unique in the sandbox. The image must be here already.
  Result<std::string> create_container(const std::string& sandbox_id, const ContainerConfig& config,
                                       const GivenUp& given_up = {});
  Result<> start_container(const std::string& id);
  /// One that has exited is created once more, by its id and over its root, its sandbox made ready;
  /// on an error all is as it was. kFailedPrecondition where the sandbox is its caller's to stop.
  Result<> recreate_container(const std::string& id);
  /// Its stop signal, `grace_ms`, then SIGKILL to every process; 0 kills at once. Returns when it
  /// has exited. Unknown or exited is success.
  Result<> stop_container(const std::string& id, int64_t grace_ms);
  Result<> signal_container(const std::string& id, int signal);
  /// Kills it if it runs. Unknown is success.
  Result<> remove_container(const std::string& id);
  std::vector<ContainerPtr> list_containers(const ContainerFilter& filter);
  Result<ContainerPtr> get_container(const std::string& id);
  /// The OCI specification that its runtime was given, JSON, with its first process's environment.
  Result<std::string> runtime_spec(const std::string& id);
  /// Waits for the exit: the container as it ended, or as it is at the deadline.
  Result<ContainerPtr> wait_container(const std::string& id, Deadline deadline);
  /// The same, again and again, of one that may be removed meanwhile. Outlives no engine.
  Result<std::function<ContainerPtr(Deadline)>> watch_exit(const std::string& id);
  /// Only what is set changes. All or nothing.
  Result<> update_container(const std::string& id, const Resources& resources);
  Result<> reopen_log(const std::string& id);
  /// Writes what runs, with its memory, to the archive `location` (checkpoint_archive.h), mode
  /// 0600; the container goes on. Whole or not at all. 0 is five minutes.
  Result<> checkpoint_container(const std::string& id, const std::string& location,
                                int64_t timeout_ms);

  // Files ---------------------------------------------------------------------------------------
  // In a container's root, whatever its state: of one that runs as it sees it itself, with its
  // volumes and without what the kernel makes up (/proc, /sys); else the root alone, where what
  // touches a volume's place, or writes to a read-only root, is kFailedPrecondition. Paths are
  // resolved in the root; nothing is executed. It is not created again meanwhile; when it ends or
  // is removed, the call is kUnavailable, whatever has been copied by then.
  Result<FileStatus> stat_file(const std::string& id, const std::string& path, LastLink last_link);
  /// As a plain tar. Owners are the container's; devices and sockets are left out.
  Result<> read_files(const std::string& id, const ReadFiles& what, const ByteSink& sink);
  /// `next` gives a plain tar piece by piece, an empty one at its end. What is there under the same
  /// name goes, folders stay and are filled. What came before an error stays.
  Result<> write_files(const std::string& id, const WriteFiles& where,
                       const std::function<Result<std::string>()>& next);

  // Exec and attach -----------------------------------------------------------------------------
  /// At the timeout the exec is killed: kDeadlineExceeded; given up: kCancelled. A child that it
  /// leaves behind holding its output is not waited for.
  Result<ExecSyncResult> exec_sync(const ExecSyncRequest& request);
  Result<std::unique_ptr<ExecSession>> start_exec(const std::string& container_id,
                                                  const ExecOptions& options);
  Result<> attach(const AttachRequest& request);
  Result<> resize(const std::string& id, uint16_t height, uint16_t width);

  // Stats ---------------------------------------------------------------------------------------
  // Read from cgroups, procfs and the kernel's network counters at the time of the call; what
  // containers wrote is measured now and then. Lists have what runs.
  Result<ContainerStats> container_stats(const std::string& id);
  std::vector<ContainerStats> list_container_stats(const ContainerFilter& filter);
  /// kFailedPrecondition for one that is not ready.
  Result<SandboxStats> sandbox_stats(const std::string& id);
  std::vector<SandboxStats> list_sandbox_stats(const SandboxFilter& filter);
  /// Of every ready sandbox and the containers that run in it.
  std::vector<SandboxMetrics> list_sandbox_metrics();

  // Images --------------------------------------------------------------------------------------
  Result<image::Image> pull_image(const std::string& name, const image::PullOptions& options);
  Result<std::vector<image::Image>> import_image(const std::string& path,
                                                 const image::ImportOptions& options);
  Result<std::vector<image::Image>> list_images();
  Result<std::optional<image::Image>> find_image(const std::string& name_or_id);
  Result<> remove_image(const std::string& name_or_id);
  Result<> untag_image(const std::string& name);
  Result<DiskUsage> image_fs_usage();
  /// The same and what all containers have written into their roots, as far as it was measured.
  DiskUsage with_written(DiskUsage usage);

  // The rest ------------------------------------------------------------------------------------
  HostStatus status();
  /// Compares what is on record with what the kernel and the disks hold, and with `kYes` mends what
  /// differs. What a verb under way is about is left out.
  std::vector<Finding> examine(Repair repair);
  /// Whether a root of the image store may be a container's: of one that is here, be it half made,
  /// or whose record or whose sandbox's cannot be read. Of every root when no record could be.
  bool may_need_root(const std::string& root_id);
  /// As they are in force.
  Options options() const;
  /// Other values for what may change while the engine runs: handlers and the default one,
  /// programs, CDI folders, cgroup parents, SELinux. Folders and the cgroup driver of `options` are
  /// not looked at. What it returns puts them in force for the verbs that begin after it, and
  /// cannot fail; new handlers' programs have been asked for their features by then.
  Result<std::function<void()>> prepare(Options options);
  /// How many monitors are connected.
  size_t count_monitors();
  /// Bytes of output that could not be written to their logs, of containers that have ended since
  /// fluytd's start.
  uint64_t count_dropped_log_bytes() const;
  std::unique_ptr<Subscription> subscribe(std::function<void(const Event&)> handler);
  /// Tells every listener kEnd, so that calls that wait for events end before the server does.
  void end_events();

  struct Core;  // engine/core.h: what the verbs share

 private:
  explicit Engine(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
};

}  // namespace fluyt::engine
