#include "monitor/process/pod_init.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "base/strings.h"
#include "monitor/process/sandbox.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/socket.h"

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

Result<> take_own_ids() {
  if (setgroups(0, nullptr) != 0 || setresgid(kPodInitId, kPodInitId, kPodInitId) != 0 ||
      setresuid(kPodInitId, kPodInitId, kPodInitId) != 0) {
    return Error::from_errno(errno, "setresuid(pod init)");
  }
  return {};
}

enum class Ids {
  kTake,
  kHas,  // in a user namespace, which does not know them: it came with them
};

Result<> drop_everything(Ids ids) {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    if (prctl(PR_CAPBSET_DROP, capability) != 0)
      return Error::from_errno(errno, "prctl(PR_CAPBSET_DROP)");
  }
  if (ids == Ids::kTake) FLUYT_TRY(take_own_ids());
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> none{};
  if (syscall(SYS_capset, &header, none.data()) != 0)
    return Error::from_errno(errno, "capset(none)");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return Error::from_errno(errno, "prctl(PR_SET_NO_NEW_PRIVS)");
  return {};
}

Result<> become_pod_init(sys::FdRef program, sys::FdRef go, Ids ids) {
  // Waits until it has been put into its cgroup.
  std::array<char, 1> byte;
  if (FLUYT_TRY(sys::read_some(go, byte)) != 1) return Error(Code::kCancelled, "the worker ended");
  setsid();
  FLUYT_TRY(enter_empty_root());
  FLUYT_TRY(drop_everything(ids));
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

[[noreturn]] void run_child(sys::FdRef program, sys::FdRef go, sys::FdRef report, Ids ids) {
  auto failed = become_pod_init(program, go, ids);
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

namespace {

// As the pod init's user, in the namespaces: capabilities are kept over the change of users, for to
// join takes one over the user namespace, and come anew with it.
Result<> join_as_pod_init(const std::vector<JoinedNamespace>& joined) {
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
    return Error::from_errno(errno, "prctl(PR_SET_KEEPCAPS)");
  FLUYT_TRY(take_own_ids());
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (syscall(SYS_capget, &header, data.data()) != 0) return Error::from_errno(errno, "capget()");
  for (auto& half : data) half.effective = half.permitted;
  if (syscall(SYS_capset, &header, data.data()) != 0)
    return Error::from_errno(errno, "capset(effective)");
  for (const JoinedNamespace& space : joined) FLUYT_TRY(sys::join_namespaces(space.fd, space.type));
  return {};
}

struct Ends {
  sys::Pipe go;
  sys::Pipe report;
};

Result<sys::Process> clone_init(sys::FdRef program, Ends& ends, Ids ids) {
  clone_args arguments{};
  int pidfd = -1;
  // CLONE_PARENT: the monitor is to be its parent. Its exit signal is then the caller's, SIGCHLD.
  arguments.flags = CLONE_PIDFD | CLONE_PARENT | CLONE_NEWPID | CLONE_NEWNS;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid == 0) {
    ends.go.write.reset();
    run_child(program, ends.go.read, ends.report.write, ids);
  }
  if (pid < 0) return Error::from_errno(errno, "clone3(new PID namespace)");
  return sys::Process(static_cast<pid_t>(pid), sys::Fd(pidfd));
}

// The maker is a child of the monitor's itself, so that what it makes becomes one too.
Result<sys::Process> clone_init_joined(sys::FdRef program, Ends& ends,
                                       const std::vector<JoinedNamespace>& joined) {
  sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  auto maker = FLUYT_TRY(sys::clone_process({.flags = CLONE_PARENT, .cgroup = {}}));
  if (!maker) {
    pair.first.reset();
    auto made = join_as_pod_init(joined);
    auto init = made.ok() ? clone_init(program, ends, Ids::kHas)
                          : Result<sys::Process>(std::move(made).error());
    const Result<> told =
        init.ok() ? sys::send_with_fds(pair.second, std::to_string(init->pid()), {init->pidfd()})
                  : sys::send_with_fds(pair.second, init.error().message(), {});
    if (!told.ok() && init.ok()) init->kill(SIGKILL).ignore("nobody will know of it");
    _exit(0);
  }
  pair.second.reset();
  std::array<char, 4096> text;  // NOLINT(cppcoreguidelines-pro-type-member-init): read into
  auto got = FLUYT_TRY(sys::receive_with_fds(pair.first, text.data(), text.size()));
  const std::string_view said(text.data(), got.size);
  const auto pid = parse_number<pid_t>(said);
  if (got.fds.size() == 1 && pid) return sys::Process(*pid, std::move(got.fds.front()));
  return Error(Code::kInternal, said.empty() ? "its maker ended early" : std::string(said));
}

}  // namespace

Result<PodInit> start_pod_init(const SandboxRequest& request, sys::FdRef program,
                               const std::vector<JoinedNamespace>& joined) {
  Ends ends{FLUYT_TRY(sys::make_pipe()), FLUYT_TRY(sys::make_pipe())};
  PodInit init{.process = joined.empty() ? FLUYT_TRY(clone_init(program, ends, Ids::kTake))
                                         : FLUYT_TRY(clone_init_joined(program, ends, joined)),
               .record = {}};
  ends.report.write.reset();
  auto abandon = [&](Error error) {
    init.process.kill(SIGKILL).ignore("the monitor reaps it");
    return error;
  };
  auto record = give_cgroup(request, init.process.pid());
  if (!record.ok()) return abandon(std::move(record).error());
  init.record = std::move(record).value();
  FLUYT_TRY(sys::write_all(ends.go.write, "g"));
  auto said = sys::read_all(ends.report.read, 4096);
  if (!said.ok()) return abandon(std::move(said).error());
  if (!said->empty()) return abandon(Error(Code::kInternal, *said));
  return init;
}

}  // namespace fluyt::monitor
