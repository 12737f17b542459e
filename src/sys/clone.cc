#include "sys/clone.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::sys {

namespace {

struct CloneArguments {  // struct clone_args, as of 5.7
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
      set_tid_size, cgroup;
};
constexpr uint64_t kCloneIntoCgroup = 0x200000000ULL;

void be_born_in(FdRef cgroup, CloneArguments& arguments) {
  if (!cgroup.valid()) return;
  arguments.flags |= kCloneIntoCgroup;
  arguments.cgroup = static_cast<uint64_t>(cgroup.raw());
}

std::string map_text(const std::vector<IdRange>& ranges) {
  std::string text;
  for (const IdRange& range : ranges) {
    text += cat(range.inside, " ", range.outside, " ", range.count, "\n");
  }
  return text;
}

Result<> close_range_of(unsigned first, unsigned last, unsigned flags) {
  if (first > last) return {};
  if (syscall(SYS_close_range, first, last, flags) != 0) {
    return Error::from_errno(errno, cat("close_range(", first, ", ", last, ")"));
  }
  return {};
}

}  // namespace

Result<std::optional<Process>> clone_process(const CloneRequest& request) {
  CloneArguments arguments{};
  int pidfd = -1;
  arguments.flags = request.flags | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  // With CLONE_PARENT the kernel takes the exit signal of the caller and refuses another.
  if ((request.flags & CLONE_PARENT) == 0) arguments.exit_signal = SIGCHLD;
  be_born_in(request.cgroup, arguments);
  long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  const bool plain =
      !request.cgroup.valid() && (request.flags & ~static_cast<uint64_t>(CLONE_PARENT)) == 0;
  if (pid < 0 && plain && (errno == ENOSYS || errno == EPERM)) {
    // A seccomp filter that was put on already: profiles refuse clone3 by ENOSYS, older ones by
    // EPERM, because they cannot look into its arguments, and allow clone.
    const uint64_t flags = arguments.flags | arguments.exit_signal;
    pid = syscall(SYS_clone, flags, nullptr, &pidfd, nullptr, nullptr);
  }
  if (pid < 0) return Error::from_errno(errno, cat("clone3(flags ", arguments.flags, ")"));
  if (pid == 0) return std::optional<Process>();
  return std::optional(Process(static_cast<pid_t>(pid), Fd(pidfd)));
}

#if defined(__x86_64__)

namespace {

// The child goes on below our frame, which stays as it is: it does not return, and we stand still.
__attribute__((noinline)) long clone_and_live(const CloneArguments& arguments, Life life,
                                              void* argument) {
  long result = SYS_clone3;
  asm volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "sub $256, %%rsp\n\t"  // what the compiler keeps below the stack pointer
      "and $-16, %%rsp\n\t"
      "mov %[argument], %%rdi\n\t"
      "call *%[life]\n\t"
      "ud2\n\t"
      "1:"
      : "+a"(result)
      : "D"(&arguments), "S"(sizeof arguments), [life] "r"(life), [argument] "r"(argument)
      : "rcx", "r11", "memory", "cc");
  return result;
}

}  // namespace

Result<Process> live_in_our_memory(Life life, void* argument, FdRef cgroup) {
  CloneArguments arguments{};
  int pidfd = -1;
  arguments.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  be_born_in(cgroup, arguments);
  const long pid = clone_and_live(arguments, life, argument);
  if (pid < 0) {
    return Error::from_errno(static_cast<int>(-pid), cat("clone3(flags ", arguments.flags, ")"));
  }
  return Process(static_cast<pid_t>(pid), Fd(pidfd));
}

long live_in_our_memory_plainly(Life life, void* argument, FdRef cgroup) {
  CloneArguments arguments{};
  arguments.flags = CLONE_VM | CLONE_VFORK;
  arguments.exit_signal = SIGCHLD;
  be_born_in(cgroup, arguments);
  return clone_and_live(arguments, life, argument);
}

#else

Result<Process> live_in_our_memory(Life /*life*/, void* /*argument*/, FdRef /*cgroup*/) {
  return Error(Code::kUnimplemented, "not done on this architecture");
}

long live_in_our_memory_plainly(Life /*life*/, void* /*argument*/, FdRef /*cgroup*/) {
  return -ENOSYS;
}

#endif

Result<Process> make_sleeper() {
  const pid_t parent = getpid();
  auto child = FLUYT_TRY(clone_process({}));
  if (child) return std::move(*child);
  // Nothing here may allocate or fail: it is a copy of whatever we were doing. Signals for all of a
  // cgroup are not meant for it.
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  prctl(PR_SET_NAME, "fluyt-hold");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
  syscall(SYS_close_range, 0U, ~0U, 0U);
  while (true) pause();
}

Result<> unshare_namespaces(uint64_t flags) {
  if (flags != 0 && ::unshare(static_cast<int>(flags)) != 0) {
    return Error::from_errno(errno, cat("unshare(", flags, ")"));
  }
  return {};
}

Result<> join_namespaces(FdRef fd, uint64_t types) {
  if (setns(fd.raw(), static_cast<int>(types)) != 0) {
    return Error::from_errno(errno, cat("setns([", fd.raw(), "], ", types, ")"));
  }
  return {};
}

Result<Fd> open_namespace(const std::string& path, uint64_t type) {
  Fd fd = FLUYT_TRY(open(path, O_RDONLY | O_NONBLOCK));
  const int found = ioctl(fd.raw(), NS_GET_NSTYPE);
  if (found < 0) {
    return Error(Code::kInvalidArgument, cat(quote(path, 1024), " is not a namespace"));
  }
  if (static_cast<uint64_t>(found) != type) {
    return Error(Code::kInvalidArgument, cat(quote(path, 1024), " is a namespace of another type"));
  }
  return fd;
}

Result<> write_id_maps(pid_t pid, const std::vector<IdRange>& uids,
                       const std::vector<IdRange>& gids) {
  FLUYT_TRY(write_file(kCwd, cat("/proc/", pid, "/uid_map"), map_text(uids)));
  return write_file(kCwd, cat("/proc/", pid, "/gid_map"), map_text(gids));
}

Result<Fd> make_user_namespace(const std::vector<IdRange>& uids, const std::vector<IdRange>& gids) {
  auto child = FLUYT_TRY(clone_process({.flags = CLONE_NEWUSER, .cgroup = {}}));
  if (!child) {
    pause();  // holds the namespace until it is open; killed below
    _exit(0);
  }
  auto open_it = [&]() -> Result<Fd> {
    FLUYT_TRY(write_id_maps(child->pid(), uids, gids));
    return open(cat("/proc/", child->pid(), "/ns/user"), O_RDONLY);
  };
  auto fd = open_it();
  child->kill(SIGKILL).ignore("it has nothing but the namespace");
  child->wait(Deadline::never()).ignore("it was killed");
  return fd;
}

Result<> bring_loopback_up() {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno(errno, "socket(AF_INET)");
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (ioctl(socket.raw(), SIOCSIFFLAGS, &request) != 0) {
    return Error::from_errno(errno, "ioctl(SIOCSIFFLAGS, lo up)");
  }
  return {};
}

Result<> set_host_name(const std::string& name) {
  if (sethostname(name.data(), name.size()) != 0) {
    return Error::from_errno(errno, cat("sethostname(", quote(name), ")"));
  }
  return {};
}

Result<> set_domain_name(const std::string& name) {
  if (setdomainname(name.data(), name.size()) != 0) {
    return Error::from_errno(errno, cat("setdomainname(", quote(name), ")"));
  }
  return {};
}

Result<Fd> take_descriptor(const Process& process, int number) {
  const long fd = syscall(SYS_pidfd_getfd, process.pidfd().raw(), number, 0);
  if (fd < 0)
    return Error::from_errno(errno, cat("pidfd_getfd(pid ", process.pid(), ", ", number, ")"));
  return Fd(static_cast<int>(fd));
}

Result<> hide_in_empty_root() {
  FsContext context = FLUYT_TRY(FsContext::open("tmpfs"));
  const Fd empty = FLUYT_TRY(context.mount(MOUNT_ATTR_RDONLY));
  if (fchdir(empty.raw()) != 0 || chroot(".") != 0)
    return Error::from_errno(errno, "chroot(empty tmpfs)");
  return {};
}

Result<> close_all_but(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned next = 3;
  for (const int fd : keep) {
    if (fd < 3 || static_cast<unsigned>(fd) < next) continue;
    FLUYT_TRY(close_range_of(next, static_cast<unsigned>(fd) - 1, 0));
    next = static_cast<unsigned>(fd) + 1;
  }
  return close_range_of(next, ~0U, 0);
}

Result<> keep_on_exec(FdRef fd) {
  if (fcntl(fd.raw(), F_SETFD, 0) != 0) return Error::from_errno(errno, "fcntl(F_SETFD)");
  return {};
}

Result<> close_on_exec_from(int first) {
  return close_range_of(static_cast<unsigned>(first), ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
}

Result<> open_missing_streams() {
  while (true) {
    const int fd = ::open("/dev/null", O_RDWR | O_NOCTTY);
    if (fd < 0) return Error::from_errno(errno, "open(\"/dev/null\")");
    if (fd <= 2) continue;
    close(fd);
    return {};
  }
}

Result<> place_descriptor(FdRef fd, int number) {
  // dup2 of a descriptor onto itself would leave close-on-exec set.
  const int result = fd.raw() == number ? fcntl(number, F_SETFD, 0) : dup2(fd.raw(), number);
  if (result < 0) return Error::from_errno(errno, cat("dup2(", fd.raw(), ", ", number, ")"));
  return {};
}

}  // namespace fluyt::sys
