#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "host/probe.h"
#include "runtime/caps/caps.h"
#include "runtime/checkpoint/criu.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/process.h"

namespace fluyt::host {

namespace {

namespace caps = runtime::caps;
namespace checkpoint = runtime::checkpoint;

Result<std::string> kernel() {
  utsname name{};
  if (::uname(&name) != 0) return Error::from_errno(errno, "uname()");
  return cat("Linux ", name.release, ", ", name.machine);
}

void examine_privileges(Findings& findings) {
  Findings::About about{.name = "privileges",
                        .need = Need::kPods,
                        .loses = "fluytd cannot make containers that ask for what is missing",
                        .remedy = "run fluytd as root, outside of a container"};
  const auto held = in_child([]() -> Result<std::string> {
    const int last = FLUYT_TRY(caps::last_cap());
    const caps::Set all = (caps::Set{2} << static_cast<unsigned>(last)) - 1;
    const caps::Set lacks = all & ~FLUYT_TRY(caps::current(last)).effective;
    if (lacks == 0) return cat("root, all ", last + 1, " capabilities");
    return cat("-", ::geteuid() == 0 ? "root without " : "not root; without ",
               lacks == all ? "any capability" : join(caps::names_of(lacks), ", "));
  });
  if (!held.ok() || !held->starts_with('-')) return findings.add(std::move(about), held);
  const bool administers = ::geteuid() == 0 && held->find("CAP_SYS_ADMIN") == std::string::npos;
  findings.add(std::move(about), administers ? Has::kPartly : Has::kNo, held->substr(1));
}

// As a container's first process is made; clone_process() would do with clone(2) for a plain child.
Result<std::string> clone_and_pidfd() {
  constexpr int kStatus = 7;
  const sys::Process child =
      FLUYT_TRY(sys::live_in_our_memory([](void*) { ::_exit(kStatus); }, nullptr));
  const auto ended = FLUYT_TRY(child.wait(Deadline::after_ms(5000)));
  if (!ended || ended->code != kStatus)
    return Error(Code::kInternal, "waitid(P_PIDFD): not the child's status");
  FLUYT_TRY(child.kill(SIGTERM));
  FLUYT_TRY(sys::take_descriptor(FLUYT_TRY(sys::Process::open(::getpid())), 1));
  return std::string("clone3, pidfd_open, pidfd_getfd, pidfd_send_signal");
}

Result<std::string> openat2_and_close_range() {
  const sys::Fd root = FLUYT_TRY(sys::open("/", O_PATH | O_DIRECTORY));
  FLUYT_TRY(sys::open_in(root, "../proc", O_PATH));
  FLUYT_TRY(sys::close_on_exec_from(3));
  return std::string("openat2, close_range");
}

struct Kind {
  uint64_t flag;
  std::string_view name;
  bool needed;
};
constexpr std::array kKinds{
    Kind{CLONE_NEWNS, "mount", true},   Kind{CLONE_NEWPID, "pid", true},
    Kind{CLONE_NEWNET, "net", true},    Kind{CLONE_NEWIPC, "ipc", true},
    Kind{CLONE_NEWUTS, "uts", true},    Kind{CLONE_NEWCGROUP, "cgroup", true},
    Kind{CLONE_NEWTIME, "time", false},
};

void examine_namespaces(Findings& findings) {
  Findings::About about{.name = "namespaces",
                        .need = Need::kPods,
                        .loses = "containers cannot be kept apart",
                        .remedy = "a kernel with CONFIG_NAMESPACES and all kinds below it"};
  std::vector<std::string> there;
  std::vector<std::string> absent;
  bool needed = false;
  Result<std::string> first_error(std::string{});
  for (const Kind& kind : kKinds) {
    auto tried = in_child([&]() -> Result<std::string> {
      FLUYT_TRY(sys::unshare_namespaces(kind.flag));
      return std::string("made");
    });
    (tried.ok() ? there : absent).emplace_back(kind.name);
    if (tried.ok()) continue;
    needed |= kind.needed;
    if (first_error.ok()) first_error = std::move(tried);
  }
  if (absent.empty()) return findings.add(std::move(about), Has::kYes, join(there, ", "));
  if (there.empty()) return findings.add(std::move(about), first_error);
  if (!needed) about.loses = "specifications that ask for one are refused";
  findings.add(std::move(about), needed ? Has::kNo : Has::kPartly,
               cat(join(there, ", "), "; not ", join(absent, ", ")));
}

Result<std::string> user_namespace() {
  const std::vector<sys::IdRange> some = {{.inside = 0, .outside = 1U << 20U, .count = 65536}};
  FLUYT_TRY(sys::make_user_namespace(some, some));
  return std::string("made, with 65536 ids");
}

// Lowering one's score needs CAP_SYS_RESOURCE; the kernel has no other way to ask than to try.
Result<std::string> lower_oom_score() {
  constexpr size_t kMax = 64;
  const std::string text = FLUYT_TRY(sys::read_file("/proc/self/oom_score_adj", kMax));
  const int own = parse_number<int>(trim(text)).value_or(0);
  const int lower = own > -1000 ? own - 1 : own;
  FLUYT_TRY(sys::write_file(sys::kCwd, "/proc/self/oom_score_adj", cat(lower)));
  return cat("oom_score_adj can be lowered below ", own);
}

Result<std::string> raise_limit() {
  const sys::Limits now = FLUYT_TRY(sys::get_rlimit(0, RLIMIT_NPROC));
  if (now.hard == RLIM_INFINITY) {
    // To raise one there has to be one.
    FLUYT_TRY(sys::set_rlimit(0, RLIMIT_NPROC, 1U << 16U, 1U << 16U));
    FLUYT_TRY(sys::set_rlimit(0, RLIMIT_NPROC, 1U << 17U, 1U << 17U));
  } else {
    FLUYT_TRY(sys::set_rlimit(0, RLIMIT_NPROC, now.hard, now.hard + 1));
  }
  return std::string("hard limits can be raised");
}

Result<std::string> rename_program() {
  unsigned size = 0;
  if (::prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) != 0) {
    return Error::from_errno(errno, "prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE)");
  }
  return std::string("PR_SET_MM_MAP");
}

Result<std::string> criu() {
  auto path = checkpoint::find_criu();
  if (!path.ok()) return Error(Code::kNotFound, "not found in PATH");
  auto program = FLUYT_TRY(checkpoint::Criu::start());
  FLUYT_TRY(program.check_version());
  return std::move(*path);
}

}  // namespace

void examine_processes(Findings findings) {
  findings.add({.name = "kernel", .need = Need::kSome, .loses = "", .remedy = ""}, kernel());
  examine_privileges(findings);
  findings.try_out({.name = "clone3 and pidfds",
                    .need = Need::kPods,
                    .loses = "no process can be started and held on to",
                    .remedy = "Linux 5.15, and no filter against these calls"},
                   clone_and_pidfd);
  findings.try_out({.name = "openat2",
                    .need = Need::kPods,
                    .loses = "paths in images cannot be walked safely",
                    .remedy = "Linux 5.15, and no filter against these calls"},
                   openat2_and_close_range);
  examine_namespaces(findings);
  findings.try_out({.name = "user namespaces",
                    .loses = "pods with hostUsers: false are refused",
                    .remedy = "sysctl -w user.max_user_namespaces=10000; CONFIG_USER_NS"},
                   user_namespace);
  findings.try_out({.name = "OOM scores",
                    .loses = "containers' scores below fluytd's own are raised to it",
                    .remedy = "give fluytd CAP_SYS_RESOURCE"},
                   lower_oom_score);
  findings.try_out({.name = "hard limits",
                    .loses = "containers that ask for higher limits than fluytd's are refused",
                    .remedy = "give fluytd CAP_SYS_RESOURCE"},
                   raise_limit);
  findings.try_out({.name = "program in place",
                    .loses = "runf executes itself a second time for each container: slower",
                    .remedy = "a kernel with CONFIG_CHECKPOINT_RESTORE"},
                   rename_program);
  findings.try_out({.name = "criu",
                    .loses = "no checkpoint and no restore",
                    .remedy = "install CRIU 3.15 or newer (Debian's package criu)"},
                   criu);
}

}  // namespace fluyt::host
