#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "guest/base/quota.h"
#include "guest/base/timers.h"
#include "guest/base/wait.h"
#include "guest/fs/charged_memory.h"
#include "guest/fs/devices.h"
#include "guest/mm/mm.h"
#include "guest/net/network.h"
#include "guest/platform/host/io.h"
#include "guest/platform/host/memory.h"
#include "guest/platform/platform.h"
#include "guest/task/futex.h"
#include "guest/task/pids.h"
#include "guest/task/seccomp.h"
#include "guest/task/signals.h"
#include "guest/task/sysv.h"
#include "guest/vfs/credentials.h"
#include "guest/vfs/file.h"
#include "guest/vfs/locks.h"
#include "guest/vfs/tree.h"
#include "sys/fd.h"

/// Tasks (threads), thread groups (processes), and the kernel that they are in.
///
/// Locking: Kernel::lock guards the tree of processes, every signal, and whatever is said to be
/// under it. It is taken before the locks of mm, files and queues, never behind them but for a
/// file's position_lock, and is not held while sleeping or while guest code runs.
namespace fluyt::guest {

class Kernel;
class Process;
class Task;
using TaskPtr = std::shared_ptr<Task>;
using ProcessPtr = std::shared_ptr<Process>;

/// Root, working directory, umask: shared with CLONE_FS.
struct FsContext {
  std::mutex lock;
  DentryPtr root;
  DentryPtr cwd;
  uint32_t umask = 022;
};

/// What sched(7) knows of a thread; remembered and shown, the host schedules as it likes.
struct Schedule {
  int policy = 0;  // SCHED_OTHER
  int priority = 0;
  int nice = 0;
  bool reset_on_fork = false;
  std::vector<uint64_t> allowed;  // processors, a bit each; empty: all that there are
};

/// A bit for each of so many.
std::vector<uint64_t> all_processors(unsigned count);

struct Limit {
  uint64_t soft = ~uint64_t{0};
  uint64_t hard = ~uint64_t{0};
};
inline constexpr size_t kLimits = 16;
inline constexpr size_t kStackLimit = 3;  // RLIMIT_STACK

/// Processor time.
struct Usage {
  int64_t user_ns = 0;
  int64_t system_ns = 0;
};

/// getloadavg(3). Linux counts who could run, which the host alone knows: this is the processor
/// time that was used per second. Nothing wakes up for it: between two looks it is taken as even.
class LoadAverage {
 public:
  using Values = std::array<double, 3>;  // of the last 1, 5 and 15 minutes
  explicit LoadAverage(int64_t now_ns) : seen_ns_(now_ns) {}
  /// `used_ns` since the beginning.
  Values look(int64_t now_ns, int64_t used_ns);

 private:
  int64_t seen_ns_;
  int64_t used_ns_ = 0;
  Values values_{};
};

/// A timer on a clock of processor time: looked at again and again while it is armed.
struct ProcessorTimer {
  int64_t due_ns = 0;  // 0: not armed
  int64_t interval_ns = 0;
  int overrun = 0;
};

/// A thread group. Everything under Kernel::lock unless said otherwise.
class Process {
 public:
  /// `own_number` is its pid as its own PID namespace has it.
  Process(Kernel& of, int32_t id, PidSpacePtr in, int32_t own_number)
      : kernel(of), pid(id), pids(std::move(in)), number(own_number) {
    // Where Linux's own defaults are not "unlimited": MSGQUEUE, NICE and RTPRIO.
    constexpr uint64_t kQueueBytes = 819200;
    constexpr size_t kMsgQueue = 12;
    limits[kMsgQueue] = {kQueueBytes, kQueueBytes};
    constexpr size_t kNice = 13;
    constexpr size_t kRtPrio = 14;
    limits[kNice] = limits[kRtPrio] = {0, 0};
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  Kernel& kernel;
  // Here and everywhere: ids, which are one row for all namespaces. What programs say and see are
  // numbers of their namespaces; system calls translate (Task::shown, Task::meant).
  const int32_t pid;
  const PidSpacePtr pids;
  const int32_t number;
  bool is_init() const { return pids->init == pid; }
  std::weak_ptr<Process> parent;
  std::vector<ProcessPtr> children;  // alive, stopped and zombies
  std::vector<Task*> threads;        // alive
  int32_t group = 0;
  int32_t session = 0;
  std::shared_ptr<Terminal> terminal;  // the controlling one
  int32_t hung_up_foreground = 0;      // of a leader whose terminal went before it did
  uint64_t programs = 0;               // that it has executed

  std::shared_ptr<SignalActions> actions = std::make_shared<SignalActions>();
  PendingSignals pending;
  SignalSet early = 0;   // came to an init that had no handler for them yet, in its first second
  int exit_signal = 17;  // SIGCHLD

  // Its end: the status that wait shows, when the last thread is gone.
  bool exiting = false;
  int exit_status = 0;
  bool zombie = false;
  Task* executing = nullptr;  // ends the other threads

  bool stopped = false;
  bool stop_reported = true;
  bool continued_reported = true;
  int stop_signal = 0;

  WaitQueue children_changed;
  WaitQueue threads_changed;  // fewer threads, or continued
  WaitQueue released;         // vfork's parent: exec or exit happened
  std::atomic<bool> has_ended{false};
  WaitQueue ended;        // for descriptors of it: it is a zombie now
  WaitQueue signal_sent;  // to it or a thread of it: signalfd
  bool vfork_done = true;

  std::array<Limit, kLimits> limits;
  std::atomic<uint64_t> file_size_limit{~uint64_t{0}};  // RLIMIT_FSIZE, to be asked without lock
  std::string executable;
  DentryPtr executable_path;
  std::vector<std::string> arguments;
  int64_t started_ns = 0;
  int64_t user_base_ns = 0;      // what its address space had taken before it was the process's
  int64_t user_before_ns = 0;    // in address spaces that it has left
  int64_t system_before_ns = 0;  // of threads that have ended
  Usage children_usage;          // of those that were waited for
  /// What went through read(2), write(2) and those like them; without lock.
  struct Traffic {
    std::atomic<uint64_t> read_bytes{0}, written_bytes{0}, reads{0}, writes{0};
  } traffic;
  /// Its own, so far; with the lock held.
  Usage usage() const;
  void end_image(Mm& mm);
  ProcessorTimer virtual_timer;  // ITIMER_VIRTUAL
  ProcessorTimer profile_timer;  // ITIMER_PROF
  int64_t next_xcpu_ns = 0;
  bool processor_watch = false;  // Kernel::check_processor_time comes again
  bool dumpable = true;
  UserSpacePtr executed_in;  // the user namespace of who executed its program; null: the first
  bool child_subreaper = false;
  // Shown to who asks: the host's choice is another. And as low as it may be made by anybody.
  std::atomic<int> oom_score_adj{0};
  std::atomic<int> oom_score_floor{0};
  uint32_t uid_at_end = 0;  // of its last thread
  /// The real one, of the kernel's.
  uint32_t uid() const;
  SemaphoreUndo semaphore_undo;
  std::shared_ptr<SysV> undo_in;  // whose semaphores; null: the sandbox's first
  std::atomic<bool> huge_pages_off{false};

  struct RealTimer {
    Timers::Id id = 0;
    Clock::time_point due;
    int64_t interval_ns = 0;
    uint64_t generation = 0;
  } real_timer;
  struct PosixTimer {
    int clock = 0;
    int signal = 14;
    int notify = 0;
    uint64_t value = 0;
    int32_t thread = 0;
    Timers::Id id = 0;
    Clock::time_point due;
    int64_t interval_ns = 0;
    bool armed = false;
    uint64_t generation = 0;
    int overrun = 0;
    bool processor_time = false;
    ProcessorTimer by_processor;
  };
  std::map<int, PosixTimer> timers;
  int next_timer = 0;
};

/// A mount namespace: a root in the kernel's tree of names with what is mounted in it.
struct MountSpace {
  MountSpace(std::shared_ptr<Tree> in, DentryPtr at, uint64_t number, UserSpacePtr of = {})
      : tree(std::move(in)), inode_number(number), user(std::move(of)), root_(std::move(at)) {}
  MountSpace(const MountSpace&) = delete;
  MountSpace& operator=(const MountSpace&) = delete;
  ~MountSpace() { tree->drop(root_); }
  const std::shared_ptr<Tree> tree;
  const uint64_t inode_number;  // as /proc shows it
  const UserSpacePtr user;      // that it belongs to; null: the first

  DentryPtr root() const {
    std::lock_guard lock(mutex_);
    return root_;
  }
  /// Behind Tree::pivot.
  void set_root(DentryPtr root) {
    std::lock_guard lock(mutex_);
    root_.swap(root);
  }

 private:
  mutable std::mutex mutex_;  // nothing is taken behind it
  DentryPtr root_;
};

/// What uname(2) tells of a UTS namespace.
struct SystemNames {
  uint64_t inode_number = 4026531838;  // as /proc shows it
  UserSpacePtr user;                   // that it belongs to; null: the first
  std::string host = "guest";
  std::string domain = "(none)";
};

/// cgroup_namespaces(7). There is one cgroup, so that all of them show the same.
struct CgroupSpace {
  uint64_t inode_number = 0;  // as /proc shows it
  UserSpacePtr user;          // that it belongs to; null: the first
};

/// What the programs of one container have in common. The containers of a pod share a kernel.
struct Container {
  explicit Container(Platform& on) : platform(on) {}
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  Platform& platform;
  std::unique_ptr<Platform> own_platform;  // null: the kernel's
  // Where its programs are born, also those that are executed later. Null: the kernel's first.
  std::shared_ptr<MountSpace> mounts;
  PidSpacePtr pids;
  std::shared_ptr<SystemNames> uts;
  std::shared_ptr<SysV> ipc;
  host::MemoryGauge memory;            // set before its first program starts
  std::shared_ptr<Quota> descriptors;  // of ours, for its programs; null: as many as there are
  sys::Fd strace;                      // every call, a line each; invalid: none
  sys::Fd log;                         // what is not supported, once each; invalid: nowhere
  std::array<std::atomic<bool>, 600> reported{};         // calls that the log has
  std::array<std::atomic<uint64_t>, 600> call_counts{};  // how often each was asked for
  std::atomic<bool> paused{false};
  // Of its processors' time, as whoever limits it says; 0: no limit, the usual period.
  std::atomic<uint64_t> processor_quota_us{0};
  std::atomic<uint64_t> processor_period_us{0};
  /// How many processors its programs may use: those of its cgroup on the host.
  unsigned processors() const { return host::processors(platform.host_pid()); }
  // Under Kernel::lock:
  size_t max_tasks = 4096;
  size_t tasks = 0;
  bool has_ended = false;  // nobody is born in it any more
};
using ContainerPtr = std::shared_ptr<Container>;

/// Why a task's own loop ends.
struct Ending {
  bool whole_group = false;
  int status = 0;  // as wait has it
};

/// One guest thread and the sentry thread that serves it. Fields are its own thread's, but for
/// those under Kernel::lock.
class Task final : public JobControl {
 public:
  Task(Kernel& kernel, ProcessPtr process, int32_t id, int32_t own_number, ContainerPtr of = {});
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() override;

  Kernel& kernel;
  const ContainerPtr container;  // never null
  ProcessPtr process;
  int32_t tid;           // exec may make it the leader's
  int32_t number;        // the same as its own PID namespace has it
  bool leaving = false;  // under Kernel::lock: it runs no more
  std::string name;      // under Kernel::lock

  std::shared_ptr<Mm> mm;
  // Read by others under Kernel::lock: replaced under it.
  std::shared_ptr<FdTable> files;
  std::shared_ptr<FsContext> fs;
  void replace_files(std::shared_ptr<FdTable> own);
  // Its namespaces where they are not the sandbox's first; replaced by the thread itself, under
  // lock.
  std::shared_ptr<SystemNames> uts;
  std::shared_ptr<SysV> ipc;
  SystemNames& names() const;  // under lock
  SysV& sysv() const;
  std::shared_ptr<CgroupSpace> cgroups;  // null: the first
  PidSpacePtr pids_for_children;         // null: its own
  // Replaced by the thread itself, under lock; never null.
  std::shared_ptr<MountSpace> mounts;
  /// Between ids and the numbers that its program knows; 0 where there is none.
  int32_t shown(int32_t id) const override { return process->pids->number_of(id); }
  int32_t meant(int32_t of) const override { return process->pids->id_of(of); }
  Credentials credentials;  // replaced by the thread itself, under lock
  /// The kernel's ids of those of its user namespace; kNoId: nobody's.
  uint32_t kernel_uid(uint32_t inside) const;
  uint32_t kernel_gid(uint32_t inside) const;
  Schedule schedule;  // under Kernel::lock
  /// sched_getaffinity(2), with what there is now. Under Kernel::lock.
  std::vector<uint64_t> processors() const;
  std::unique_ptr<Context> context;  // replaced under Kernel::lock
  Sleeper sleeper;

  // Signals; under Kernel::lock.
  SignalSet blocked = 0;
  std::optional<SignalSet> restore_blocked;  // sigsuspend and friends: after the handler's frame
  PendingSignals pending;
  SignalStack alternate{0, 2, 0, 0};  // SS_DISABLE
  /// SS_DISABLE, SS_ONSTACK and SS_AUTODISARM as sigaltstack(2) shows them at a stack pointer.
  int alternate_flags(uint64_t sp) const;
  /// As sigaltstack(2): EPERM, EINVAL, ENOMEM.
  Errno set_alternate(const SignalStack& wanted, uint64_t sp);

  uint64_t clear_child_tid = 0;
  uint64_t robust_list = 0;
  int parent_death_signal = 0;
  std::atomic<bool> no_new_privileges{false};
  // seccomp(2). Set by `install_filter`; `filter` is what the thread itself looks at, and stays
  // valid because a chain only ever grows.
  std::shared_ptr<const FilterChain> filters;  // under Kernel::lock
  std::atomic<const FilterChain*> filter{nullptr};
  bool strict = false;  // SECCOMP_MODE_STRICT
  uint64_t timer_slack_ns = 50'000;
  std::optional<Ending> ending;
  int32_t last_call = -1;
  std::vector<std::byte> bounce;  // for reads and writes

  /// Runs the guest thread to its end, on the calling sentry thread, then frees it.
  static void run(TaskPtr self);
  /// The task that the calling sentry thread serves; null in other threads.
  static Task* current();

  /// Something concerns this task: it looks at its signals soon. Under Kernel::lock.
  void call_in();
  /// In its program's own code, not in a call.
  bool is_running() const { return in_guest_.load(); }
  /// True when a signal would be taken now. Under Kernel::lock.
  bool has_signal() const;
  /// The same, without the lock where it need not be asked.
  bool would_take_signal() const;

  /// What memory of the host's that it asks for counts against.
  MemoryCharge memory_charge() const;
  Caller caller() { return {sleeper, credentials, &mm->space(), this, process->pid}; }
  WalkFrom walk_from(DentryPtr base = nullptr);

  // Guest memory.
  Errno copy_in(uint64_t address, std::span<std::byte> to) {
    return mm->space().read(address, to) == to.size() ? kOk : Errno(EFAULT);
  }
  Errno copy_out(uint64_t address, std::span<const std::byte> from) {
    return mm->space().write(address, from) == from.size() ? kOk : Errno(EFAULT);
  }
  template <class T>
  ErrnoOr<T> get(uint64_t address) {
    T value{};
    GUEST_TRY(copy_in(address, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }
  template <class T>
  Errno put(uint64_t address, const T& value) {
    return copy_out(address, std::as_bytes(std::span(&value, 1)));
  }
  /// A string up to its zero; ENAMETOOLONG beyond `limit`.
  ErrnoOr<std::string> get_string(uint64_t address, size_t limit);
  ErrnoOr<std::string> get_path(uint64_t address) { return get_string(address, 4096); }

  /// The sentry's processor time on behalf of this thread. Under Kernel::lock.
  int64_t system_ns() const;

  /// It is to end, whatever it is at: for what takes long without sleeping.
  bool is_ending() const;

  // What the thread starts its children from; needs the registers.
  ErrnoOr<ThreadImage> image();
  /// Context::registers. A paused container goes on first. Null: the thread is gone, or to end.
  Registers* registers();

  Errno return_from_signal();
  /// What it has locked is others' from here on, as its memory goes (execve(2), its end).
  void give_up_futexes();
  /// Raises a signal that cannot be blocked or ignored.
  void force(int signal, int code, uint64_t address);
  void force(const SignalInfo& info);
  /// Puts a chain that descends from the present one in its place. Under Kernel::lock, or before
  /// the task is started.
  void install_filter(std::shared_ptr<const FilterChain> chain) {
    filters = std::move(chain);
    filter.store(filters.get());
  }

  // JobControl.
  int32_t process_group() override;
  int32_t session() override;
  bool leads_session() override;
  Errno find_group(int32_t group) override;
  void signal_group(int32_t group, int signal) override;
  bool ignores(int signal) override;
  bool is_orphaned() override;
  std::shared_ptr<Terminal> terminal() override;
  void take_terminal(const std::shared_ptr<Terminal>& terminal) override;
  void give_up_terminal() override;
  void release_terminal(int32_t session) override;

 private:
  friend class Kernel;
  void loop();
  /// From here on guest code may run on the host, as soon as the container is not paused. False: it
  /// is, and the process is to end.
  bool go_out();
  void come_in();
  bool stay_paused();
  void leave();
  void serve(const SyscallRequest& call);
  bool passes_filter(const SyscallRequest& call);
  void take_signals();
  bool take_one_signal(bool& restart_decided);
  void stop_here(std::unique_lock<std::mutex>& lock);
  Errno push_frame(const SignalInfo& info, const SignalAction& action, Registers& registers,
                   SignalSet old_mask);
  void give_up_robust_futexes();
  void wake_futex(uint64_t address);
  void begin_usage();

  std::atomic<bool> work_{false};
  std::atomic<bool> in_guest_{false};
  int sentry_clock_ = 0;
  int64_t sentry_base_ns_ = 0;
  int restart_ = 0;  // the restart code of the call under way, or 0
};

/// A call's "value" when the host was told to carry the call out (Context::carry_out), or when the
/// handler set the registers itself.
inline constexpr uint64_t kCarriedOut = 0x7fffffffdeadc0de;

/// What carries out a call. Gives the value or the errno; restart codes are the task's business.
using Dispatch = ErrnoOr<uint64_t> (*)(Task& task, const SyscallRequest& call);

class Kernel : public TerminalHost {
 public:
  Kernel(Platform& platform, std::shared_ptr<Tree> tree, Dispatch dispatch);
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  ~Kernel() override;

  Platform& platform;
  std::shared_ptr<Tree> tree;
  const Dispatch dispatch;
  const std::shared_ptr<Network> network = std::make_shared<Network>();
  Futexes futexes;
  SysV sysv;
  FileLocks file_locks;  // outlives every file and table
  /// What guests take of the host through memory that is files: tmpfs, memfds, what processes
  /// share, pipes. Its limit follows the sandbox's.
  const std::shared_ptr<Quota> shared_memory = std::make_shared<Quota>();
  const std::shared_ptr<QueueBytes> queue_bytes = std::make_shared<QueueBytes>();
  /// Descriptors of ours that containers have shares of; null: as many as there are. Set before the
  /// first program starts.
  std::shared_ptr<Quota> descriptors;
  /// As the first container's memory is at this moment: all that the sandbox's cgroup may have, or
  /// where there is no limit half of the host's.
  void limit_shared_memory();
  Timers timers;
  std::shared_ptr<HostTerminal> terminal = std::make_shared<HostTerminal>();  // the starter's
  SystemNames names;

  std::mutex lock;
  // Under it:
  std::map<int32_t, ProcessPtr> processes;
  std::map<int32_t, Task*> tasks;
  // Numbers of tasks that are still being made, and whose they are to be.
  std::map<int32_t, const Container*> reserved;
  int64_t booted_ns = 0;
  const std::string boot_id = host::random_uuid();
  uint64_t forks = 0;
  Usage ended_usage;  // of processes that are no more, or zombies
  /// Of all there were.
  Usage usage() const;
  LoadAverage::Values load();
  /// Threads in their programs' code, and the one that asks.
  size_t running() const;

  /// An id for a task that is to be born in `pids`, with a number there and in all above. Under
  /// lock, as the next three. EAGAIN: there are too many tasks; ENOMEM: the namespace has ended.
  struct NewId {
    int32_t id = 0;
    int32_t number = 0;  // in `pids`
  };
  ErrnoOr<NewId> new_id(PidSpace& pids, const Container& in);
  /// To be called when a task, a process, a group or a session may have been the last that an id
  /// stood for.
  void release_id(int32_t id, const PidSpacePtr& pids);
  void erase_process(Process& process);
  ProcessPtr find_process(int32_t id) const;  // null: none
  /// The first ones; process 1 is born in them.
  const std::shared_ptr<MountSpace> mounts;
  const PidSpacePtr pids = std::make_shared<PidSpace>(nullptr, kFirstNamespace);
  /// Numbers that /proc/[pid]/ns shows.
  const ContainerPtr container;  // the first, which ends all when it does
  static constexpr uint64_t kFirstNamespace = 4026531836;
  static constexpr uint64_t kFirstMounts = 4026531841;
  uint64_t next_namespace() { return next_namespace_++; }
  // Further ones, which belong to the user namespace `of`; null: the first. ENOSPC: there are too
  // many, for who holds a descriptor of one holds it all.
  ErrnoOr<std::shared_ptr<SystemNames>> new_names(const SystemNames& like, UserSpacePtr of = {});
  ErrnoOr<std::shared_ptr<SysV>> new_sysv(UserSpacePtr of = {});
  ErrnoOr<PidSpacePtr> new_pids(const PidSpacePtr& above, UserSpacePtr of = {});
  ErrnoOr<std::shared_ptr<CgroupSpace>> new_cgroups(UserSpacePtr of);
  /// Of a root that is dropped with it.
  ErrnoOr<std::shared_ptr<MountSpace>> new_mounts(DentryPtr root, UserSpacePtr of = {});
  /// One that `maker` is to enter, which owns it. ENOSPC; EPERM: the maker has no ids where it is.
  ErrnoOr<UserSpacePtr> new_users(const Credentials& maker);
  static constexpr int kMaxNamespaces = 1024;  // of a kind
  /// The ids that there are at all: those of the user namespace that the sandbox lives in, from its
  /// maps as /proc shows them. Before the first program starts.
  void set_id_maps(const std::string& of_users, const std::string& of_groups);
  const IdMap& ids(UserSpace::Kind kind) const { return first_ids_[kind]; }
  const std::string& id_map_text(UserSpace::Kind kind) const { return id_map_texts_[kind]; }
  /// What mount(2) can make, by name. Set before the first program starts.
  std::map<std::string, std::function<InodePtr(const Task&)>, std::less<>> file_systems;
  /// Sends to a thread group, or to one thread of it. Under lock. Permission was checked.
  void send(Process& process, const SignalInfo& info);
  void send_to(Task& task, const SignalInfo& info);
  /// EAGAIN: RLIMIT_SIGPENDING of `to` lets no further one be queued for its user, and it is not
  /// one that goes without (sigqueue(3)). Under lock.
  Errno may_queue(const Process& to, const SignalInfo& info) const;
  Errno may_signal(const Task& from, Process& to, int signal);  // under lock
  /// Every process of a group; false when it is empty. Under lock.
  bool send_to_group(int32_t group, const SignalInfo& info);
  /// Under lock: ends its threads. One that does not come in for it within a second ends with its
  /// memory.
  void end_process(Process& process, int status);

  /// To be called when something of the process is armed on a clock of processor time. Under lock.
  void watch_processor_time(const ProcessPtr& process);
  /// Sends what a timer_create timer sends. Under lock.
  void fire_timer(Process& process, int id, const Process::PosixTimer& timer);

  /// Nobody outside the group could continue it, when `without` is left out. Under lock.
  bool is_orphaned(int32_t group, const Process* without) const;
  void release_terminal_locked(int32_t session);
  /// As a leader ends or lets go of its terminal: the foreground hears of it. Under lock.
  void leave_terminal(Process& leader, bool at_exit);
  // TerminalHost.
  void signal_foreground(Terminal& terminal, int signal) override;
  void hang_up(Terminal& terminal) override;

  /// Puts a task into the tables. Under lock.
  void enter(const TaskPtr& task);
  /// Starts the sentry thread of a task with a context.
  Errno start(TaskPtr task);

  /// When this is back no guest code of it runs until it is called with false. Without lock. Calls
  /// that are being carried out come to their end; threads stop before they go back to their
  /// programs, and who does not let itself be called in stops where it is.
  void pause(Container& container, bool on);
  /// Sends to all of its processes, as nobody in it does. Without lock.
  void signal_all(const Container& container, int signal);
  /// Kills all that is left of a container and waits until it is gone. Without lock.
  void end_container(Container& container);

  /// Waits until the process is a zombie and gives its wait status; for the one who started it.
  int wait_for(const ProcessPtr& process);
  /// Waits until no task is left.
  void wait_for_all();

 private:
  friend class Task;
  void reap_process(Process& process);
  void give_up(int32_t pid);
  bool has_come_in(const Container& container);
  bool halt_rest(const Container& container);
  void empty_namespace(Task& init);
  std::deque<std::pair<int32_t, PidSpacePtr>> released_;  // see release_id
  std::set<int32_t> numbered_;  // ids that other namespaces have numbers for
  std::atomic<uint64_t> next_namespace_{kFirstNamespace + 64};
  // How many there are of each; whoever holds the last of one may outlive us.
  using Count = std::shared_ptr<std::atomic<int>>;
  template <class Space, class Make>
  static ErrnoOr<std::shared_ptr<Space>> make_space(const Count& count, Make make);
  const Count pid_spaces_ = std::make_shared<std::atomic<int>>();
  const Count mount_spaces_ = std::make_shared<std::atomic<int>>();
  const Count name_spaces_ = std::make_shared<std::atomic<int>>();
  const Count ipc_spaces_ = std::make_shared<std::atomic<int>>();
  const Count user_spaces_ = std::make_shared<std::atomic<int>>();
  const Count cgroup_spaces_ = std::make_shared<std::atomic<int>>();
  std::array<std::string, 2> id_map_texts_;
  std::array<IdMap, 2> first_ids_;
  void check_processor_time(const ProcessPtr& process);
  void wake_orphans(const Process& leaving, const std::vector<ProcessPtr>& children);
  void notify_parent(Process& process, int code, int status);
  void wake_for(Process& process, const SignalInfo& info);
  int32_t last_id_ = 0;
  WaitQueue ended_;
  WaitQueue resumed_;
  WaitQueue came_in_;  // threads of a container that is paused
  size_t live_ = 0;
  std::optional<LoadAverage> load_;

 public:
  /// The sentry's threads. The last member: what they do ends before the rest is destroyed.
  Workers workers;
};

/// ptrace(2), "Ptrace access mode checking": who may see into another's process. By its file-system
/// ids, as /proc asks, or by its real ones, as system calls do. Under Kernel::lock.
enum class LookBy : uint8_t { kFileIds, kRealIds };
bool may_look_into(const Task& asks, const Task& other, LookBy by);

/// `pid` and `uid` are of the receiver's namespaces.
SignalInfo make_signal(int signal, int code, int32_t pid = 0, uint32_t uid = 0);
/// As `to` sees who sends it.
SignalInfo signal_from(const Task& from, const Process& to, int signal, int code);

}  // namespace fluyt::guest
