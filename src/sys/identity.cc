#include "sys/identity.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {

// IOPRIO_WHO_PROCESS: newer copies of <linux/ioprio.h> are C alone (a parameter called `class`).
constexpr int kIoprioWhoProcess = 1;

Error failed(std::string_view call) { return Error::from_errno(errno, call); }

constexpr std::array<std::pair<std::string_view, int>, 16> kRlimits = {{
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
}};

struct KernelSchedAttr {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (const std::string& s : strings) out.push_back(const_cast<char*>(s.c_str()));
  out.push_back(nullptr);
  return out;
}

}  // namespace

Result<> set_dumpable(bool on) {
  if (prctl(PR_SET_DUMPABLE, on ? 1 : 0, 0, 0, 0) != 0) return failed("prctl(PR_SET_DUMPABLE)");
  return {};
}

void forget_command_line() {
  // The kernel lays out argv, the environment and the executed file's name one after the other.
  char* begin = program_invocation_name;
  // NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel gives addresses as numbers
  const char* name = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  if (begin == nullptr || name == nullptr || name < begin) return;
  explicit_bzero(begin, static_cast<size_t>(name + strlen(name) - begin));
}

Result<> set_no_new_privileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("prctl(PR_SET_NO_NEW_PRIVS)");
  return {};
}

Result<> set_groups(const std::vector<gid_t>& groups) {
  if (setgroups(groups.size(), groups.data()) != 0) {
    return failed(cat("setgroups(", groups.size(), " groups)"));
  }
  return {};
}

Result<bool> groups_denied(pid_t pid) {
  return FLUYT_TRY(read_file(cat("/proc/", pid, "/setgroups"), 64)).starts_with("deny");
}

Result<bool> may_administrate() {
  struct {
    uint32_t version = 0x20080522;  // _LINUX_CAPABILITY_VERSION_3
    int pid = 0;
  } header;
  struct {
    uint32_t effective, permitted, inheritable;
  } data[2]{};
  if (syscall(SYS_capget, &header, data) != 0) return failed("capget()");
  constexpr unsigned kSysAdmin = 21;
  return (data[0].effective >> kSysAdmin & 1U) != 0;
}

bool in_user_namespace() {
  const auto map = read_file("/proc/self/uid_map", 4096);
  // Without user namespaces there is no such file.
  return map.ok() &&
         split_words(trim(*map)) != std::vector<std::string_view>{"0", "0", "4294967295"};
}

Result<> become_root_of_ourselves() {
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return failed("unshare(CLONE_NEWUSER)");
  // In this order: without it nobody but a privileged process may write gid_map.
  FLUYT_TRY(write_file(kCwd, "/proc/self/setgroups", "deny"));
  FLUYT_TRY(write_file(kCwd, "/proc/self/uid_map", cat("0 ", uid, " 1")));
  return write_file(kCwd, "/proc/self/gid_map", cat("0 ", gid, " 1"));
}

Result<> set_ids(uid_t uid, gid_t gid, const std::optional<std::vector<gid_t>>& groups) {
  if (groups) FLUYT_TRY(set_groups(*groups));
  if (setresgid(gid, gid, gid) != 0) return failed(cat("setresgid(", gid, ")"));
  if (setresuid(uid, uid, uid) != 0) return failed(cat("setresuid(", uid, ")"));
  return {};
}

mode_t set_umask(mode_t mask) { return umask(mask); }

std::optional<int> find_rlimit(std::string_view name) {
  for (const auto& [known, number] : kRlimits) {
    if (known == name) return number;
  }
  return std::nullopt;
}

Result<> set_rlimit(pid_t pid, int resource, uint64_t soft, uint64_t hard) {
  const rlimit limits{soft, hard};
  if (prlimit(pid, static_cast<__rlimit_resource>(resource), &limits, nullptr) != 0) {
    return failed(cat("prlimit(", pid, ", ", resource, ", soft ", soft, ", hard ", hard, ")"));
  }
  return {};
}

Result<Limits> get_rlimit(pid_t pid, int resource) {
  rlimit limits{};
  if (prlimit(pid, static_cast<__rlimit_resource>(resource), nullptr, &limits) != 0) {
    return failed(cat("prlimit(", pid, ", ", resource, ")"));
  }
  return Limits{limits.rlim_cur, limits.rlim_max};
}

Result<> set_scheduler(pid_t pid, const SchedulerAttributes& attributes) {
  KernelSchedAttr request{.size = sizeof(KernelSchedAttr),
                          .policy = attributes.policy,
                          .flags = attributes.flags,
                          .nice = attributes.nice,
                          .priority = attributes.priority,
                          .runtime = attributes.runtime,
                          .deadline = attributes.deadline,
                          .period = attributes.period};
  if (syscall(SYS_sched_setattr, pid, &request, 0) != 0) {
    return failed(cat("sched_setattr(policy ", attributes.policy, ")"));
  }
  return {};
}

Result<> set_io_priority(int value) {
  if (syscall(SYS_ioprio_set, kIoprioWhoProcess, 0, value) != 0) {
    return failed(cat("ioprio_set(", value, ")"));
  }
  return {};
}

Result<> set_personality(unsigned long domain) {
  if (personality(domain) == -1) return failed(cat("personality(", domain, ")"));
  return {};
}

Result<> set_memory_policy(int mode, const std::vector<unsigned long>& nodes) {
  const unsigned long bits = nodes.empty() ? 0 : nodes.size() * sizeof(unsigned long) * 8 + 1;
  if (syscall(SYS_set_mempolicy, mode, nodes.empty() ? nullptr : nodes.data(), bits) != 0) {
    return failed(cat("set_mempolicy(", mode, ")"));
  }
  return {};
}

Result<> set_cpu_affinity(pid_t pid, const std::vector<unsigned>& cpus) {
  unsigned highest = 0;
  for (const unsigned cpu : cpus) highest = std::max(highest, cpu);
  std::vector<unsigned long> mask(highest / (8 * sizeof(unsigned long)) + 1);
  for (const unsigned cpu : cpus) {
    mask[cpu / (8 * sizeof(unsigned long))] |= 1UL << (cpu % (8 * sizeof(unsigned long)));
  }
  if (syscall(SYS_sched_setaffinity, pid, mask.size() * sizeof(unsigned long), mask.data()) != 0) {
    return failed("sched_setaffinity()");
  }
  return {};
}

Result<> reset_cpu_affinity(pid_t pid) {
  // As many bits as any kernel counts CPUs; it ignores those that it does not have.
  std::array<unsigned long, 8192 / (8 * sizeof(unsigned long))> all;
  all.fill(~0UL);
  if (syscall(SYS_sched_setaffinity, pid, sizeof all, all.data()) != 0) {
    return failed("sched_setaffinity()");
  }
  return {};
}

Result<> new_session_keyring(const std::string& name) {
  const long ring = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.c_str(), 0, 0, 0);
  if (ring < 0) {
    if (errno == ENOSYS || errno == EPERM) return {};
    return failed(cat("keyctl(JOIN_SESSION_KEYRING, ", quote(name), ")"));
  }
  // Possessor everything, owner view, read, search: another user of the container finds it too.
  constexpr unsigned kPossessorAll = 0x3f000000;
  constexpr unsigned kUserViewReadSearch = 0x000b0000;
  if (syscall(SYS_keyctl, KEYCTL_SETPERM, ring, kPossessorAll | kUserViewReadSearch, 0, 0) != 0) {
    return failed("keyctl(SETPERM)");
  }
  return {};
}

void reset_signals() {
  // The kernel's own struct, all zero: SIG_DFL. The C library's calls, one a signal, take three
  // times as long.
  const struct {
    unsigned long handler, flags, restorer, mask;
  } by_default{};
  for (int number = 1; number < NSIG; ++number)
    syscall(SYS_rt_sigaction, number, &by_default, nullptr, sizeof by_default.mask);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

IgnoreBrokenPipes::IgnoreBrokenPipes() : before_(::signal(SIGPIPE, SIG_IGN)) {}
IgnoreBrokenPipes::~IgnoreBrokenPipes() { ::signal(SIGPIPE, before_); }

Result<> new_session() {
  if (setsid() < 0) return failed("setsid()");
  return {};
}

Result<> change_directory_to(const std::string& path) {
  if (chdir(path.c_str()) != 0) return failed(cat("chdir(", quote(path, 1024), ")"));
  return {};
}

Result<std::string> working_directory() {
  // The C library's getcwd(3) hides what the kernel says of unreachable directories.
  std::array<char, 4096> buffer;
  const long got = syscall(SYS_getcwd, buffer.data(), buffer.size());
  if (got < 0) return failed("getcwd()");
  return std::string(buffer.data());
}

Result<> check_executable(const std::string& path) {
  struct stat info{};
  if (stat(path.c_str(), &info) != 0) return failed(cat("stat(", quote(path, 1024), ")"));
  if (S_ISDIR(info.st_mode))
    return Error::from_errno(EACCES, cat(quote(path, 1024), " is a directory"));
  auto filtered = [] { return errno == EPERM || errno == ENOSYS; };
  if (faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0) return {};
  // A seccomp filter that is on already may know no more than access(2), which goes by the real
  // ids, or not even that: execve(2) will tell then.
  if (filtered() && (access(path.c_str(), X_OK) == 0 || filtered())) return {};
  return failed(cat("faccessat(", quote(path, 1024), ", X_OK)"));
}

Error execute_file(FdRef file, const std::vector<std::string>& args,
                   const std::vector<std::string>& env) {
  const auto argv = pointers(args);
  const auto envp = pointers(env);
  execveat(file.raw(), "", argv.data(), envp.data(), AT_EMPTY_PATH);
  return failed("execveat()");
}

Error execute(const std::string& path, const std::vector<std::string>& args,
              const std::vector<std::string>& env) {
  const auto argv = pointers(args);
  const auto envp = pointers(env);
  execve(path.c_str(), argv.data(), envp.data());
  return failed(cat("execve(", quote(path, 1024), ")"));
}

}  // namespace fluyt::sys
