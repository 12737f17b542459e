#include "monitor/process/pod_init.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "base/strings.h"
#include "monitor/process/sandbox.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

// An empty root that nothing can be written to, in place of the host's. MNT_DETACH on the old root
// leaves this namespace with one mount.
Result<> enter_empty_root() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return Error::from_errno(errno, "mount(/, private)");
  }
  // Over /proc, for some folder must be there; it is this namespace's alone.
  if (::mount("none", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "size=4k,nr_inodes=2,mode=555") != 0) {
    return Error::from_errno(errno, "mount(tmpfs)");
  }
  if (chdir("/proc") != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
      umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) {
    return Error::from_errno(errno, "pivot_root(empty root)");
  }
  if (::mount(nullptr, "/", nullptr,
              MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
    return Error::from_errno(errno, "mount(/, read-only)");
  }
  return {};
}

Result<> drop_everything() {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    if (prctl(PR_CAPBSET_DROP, capability) != 0)
      return Error::from_errno(errno, "prctl(PR_CAPBSET_DROP)");
  }
  if (setgroups(0, nullptr) != 0 || setresgid(kPodInitId, kPodInitId, kPodInitId) != 0 ||
      setresuid(kPodInitId, kPodInitId, kPodInitId) != 0) {
    return Error::from_errno(errno, "setresuid(pod init)");
  }
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> none{};
  if (syscall(SYS_capset, &header, none.data()) != 0)
    return Error::from_errno(errno, "capset(none)");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return Error::from_errno(errno, "prctl(PR_SET_NO_NEW_PRIVS)");
  return {};
}

Result<> become_pod_init(sys::FdRef program, sys::FdRef go) {
  // Waits until it has been put into its cgroup.
  std::array<char, 1> byte;
  if (FLUYT_TRY(sys::read_some(go, byte)) != 1) return Error(Code::kCancelled, "the worker ended");
  setsid();
  FLUYT_TRY(enter_empty_root());
  FLUYT_TRY(drop_everything());
  // All of them, 0 to 2 as well: the program, too, goes at execve.
  if (syscall(SYS_close_range, 0, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
    return Error::from_errno(errno, "close_range()");
  std::array<char, 5> name = {'f', 'l', 'u', 'y', 't'};
  std::string argument(name.data(), name.size());
  std::array<char*, 2> argv = {argument.data(), nullptr};
  std::array<char*, 1> envp = {nullptr};
  syscall(SYS_execveat, program.raw(), "", argv.data(), envp.data(), AT_EMPTY_PATH);
  return Error::from_errno(errno, "execveat(pod init)");
}

[[noreturn]] void run_child(sys::FdRef program, sys::FdRef go, sys::FdRef report) {
  auto failed = become_pod_init(program, go);
  sys::write_all(report, failed.error().message()).ignore("the other side sees the end");
  _exit(1);
}

Result<ProcessRecord> give_cgroup(const SandboxRequest& request, pid_t pid) {
  ProcessRecord record{.pid = pid,
                       .start_time = FLUYT_TRY(sys::start_time_of(pid)),
                       .boot_id = FLUYT_TRY(sys::boot_id())};
  if (request.pod_init_cgroup.empty()) return record;
  const auto host = FLUYT_TRY(runtime::cgroup::probe());
  const std::string name = cat("fluyt-init-", request.id);
  const auto cgroup =
      FLUYT_TRY(runtime::cgroup::locate(host, cat(request.pod_init_cgroup, "/", name), name));
  FLUYT_TRY(runtime::cgroup::make(host, cgroup, {}));
  record.cgroup_unified = cgroup.unified;
  record.cgroup_legacy = cgroup.legacy;
  auto joined = runtime::cgroup::join(cgroup, pid);
  if (joined.ok()) return record;
  runtime::cgroup::remove(cgroup, Deadline::after_ms(1000))
      .ignore("the first error is the one that teaches");
  return std::move(joined).error();
}

}  // namespace

Result<PodInit> start_pod_init(const SandboxRequest& request, sys::FdRef program) {
  sys::Pipe go = FLUYT_TRY(sys::make_pipe());
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  clone_args arguments{};
  int pidfd = -1;
  // CLONE_PARENT: the monitor is to be its parent. Its exit signal is then the worker's, SIGCHLD.
  arguments.flags = CLONE_PIDFD | CLONE_PARENT | CLONE_NEWPID | CLONE_NEWNS;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) {
    go.write.reset();
    run_child(program, go.read, report.write);
  }
  if (pid < 0) return Error::from_errno(errno, "clone3(new PID namespace)");
  PodInit init{.process = sys::Process(static_cast<pid_t>(pid), sys::Fd(pidfd)), .record = {}};
  report.write.reset();
  auto abandon = [&](Error error) {
    init.process.kill(SIGKILL).ignore("the monitor reaps it");
    return error;
  };
  auto record = give_cgroup(request, init.process.pid());
  if (!record.ok()) return abandon(std::move(record).error());
  init.record = std::move(record).value();
  FLUYT_TRY(sys::write_all(go.write, "g"));
  auto said = sys::read_all(report.read, 4096);
  if (!said.ok()) return abandon(std::move(said).error());
  if (!said->empty()) return abandon(Error(Code::kInternal, *said));
  return init;
}

}  // namespace fluyt::monitor
