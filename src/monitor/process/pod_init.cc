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
#include "monitor/protocol/cgroup.h"
#include "monitor/protocol/planned.h"
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

// As other engines' pause: in the memory cgroup of a pod that is Guaranteed it would else be what
// the kernel ends first, and the pod with it. Before the clones, for in a user namespace nobody may
// lower it. Where the host does not let us, as low as the monitor's.
void protect_from_oom() {
  constexpr std::string_view kScore = "/proc/self/oom_score_adj";
  constexpr int kPodInitScore = -998;
  if (sys::write_file(sys::kCwd, std::string(kScore), cat(kPodInitScore)).ok()) return;
  const auto monitors = sys::read_file(cat("/proc/", getppid(), "/oom_score_adj"), 64);
  if (!monitors.ok()) return;
  sys::write_file(sys::kCwd, std::string(kScore), trim(*monitors)).ignore("then it stays as it is");
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

Result<> become_pod_init(sys::FdRef program, const std::vector<sys::Fd>& tasks, Ids ids) {
  FLUYT_TRY(runtime::cgroup::enter(tasks));
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

[[noreturn]] void run_child(sys::FdRef program, const std::vector<sys::Fd>& tasks,
                            sys::FdRef report, Ids ids) {
  auto failed = become_pod_init(program, tasks, ids);
  sys::write_all(report, failed.error().message()).ignore("the other side sees the end");
  _exit(1);
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

// `born_in`: a v2 cgroup; where it is invalid, the caller's.
Result<sys::Process> clone_init(sys::FdRef program, const runtime::cgroup::Own& own,
                                sys::FdRef born_in, sys::FdRef report, Ids ids) {
  // CLONE_PARENT: the monitor is to be its parent. Its exit signal is then the caller's, SIGCHLD.
  auto init = FLUYT_TRY_CONTEXT(
      sys::clone_process({.flags = CLONE_PARENT | CLONE_NEWPID | CLONE_NEWNS, .cgroup = born_in}),
      "new PID namespace");
  if (!init) run_child(program, own.ways.tasks, report, ids);
  return std::move(*init);
}

// The maker is a child of the monitor's itself, so that what it makes becomes one too; and born in
// the v2 cgroup, for as another user it may not choose one for its child.
Result<sys::Process> clone_init_joined(sys::FdRef program, const runtime::cgroup::Own& own,
                                       sys::FdRef report,
                                       const std::vector<JoinedNamespace>& joined) {
  sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  auto maker = FLUYT_TRY(sys::clone_process({.flags = CLONE_PARENT, .cgroup = own.ways.unified}));
  if (!maker) {
    pair.first.reset();
    auto made = join_as_pod_init(joined);
    auto init = made.ok() ? clone_init(program, own, {}, report, Ids::kHas)
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

Result<PodInit> start_pod_init(const SandboxRequest& request, const std::string& state_dir,
                               sys::FdRef program, const std::vector<JoinedNamespace>& joined) {
  protect_from_oom();
  const std::string name = cat("fluyt-init-", request.id);
  const runtime::cgroup::Own own = FLUYT_TRY(runtime::cgroup::make_own(
      request.pod_init_cgroup.empty() ? "" : cat(request.pod_init_cgroup, "/", name), name,
      record_planned(cat(state_dir, "/", kPodInitFile))));
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  auto process = joined.empty()
                     ? clone_init(program, own, own.ways.unified, report.write, Ids::kTake)
                     : clone_init_joined(program, own, report.write, joined);
  report.write.reset();
  if (!process.ok()) {
    own.remove();
    return std::move(process).error();
  }
  PodInit init{.process = std::move(*process), .record = {}};
  auto started = [&]() -> Result<> {
    init.record = {.pid = init.process.pid(),
                   .start_time = FLUYT_TRY(sys::start_time_of(init.process.pid())),
                   .boot_id = FLUYT_TRY(sys::boot_id())};
    put_cgroup(own.record, init.record);
    const std::string said = FLUYT_TRY(sys::read_all(report.read, 4096));
    if (!said.empty()) return Error(Code::kInternal, said);
    return {};
  }();
  if (started.ok()) return init;
  init.process.kill(SIGKILL).ignore("the monitor reaps it");
  own.remove();
  return std::move(started).error();
}

}  // namespace fluyt::monitor
