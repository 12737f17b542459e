#include "guest/platform/host/confine.h"

#include <asm/termbits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/membarrier.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <vector>

#include "base/strings.h"
#include "sys/mount.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, uint64_t)
#endif

namespace fluyt::guest::host {
namespace {

constexpr uint32_t kAlways[] = {SYS_read,
                                SYS_write,
                                SYS_pread64,
                                SYS_pwrite64,
                                SYS_preadv2,
                                SYS_pwritev2,
                                SYS_close,
                                SYS_fstat,
                                SYS_lseek,
                                SYS_ftruncate,
                                SYS_fallocate,
                                SYS_fsync,
                                SYS_munmap,
                                SYS_mremap,
                                SYS_madvise,
                                SYS_brk,
                                SYS_memfd_create,
                                SYS_futex,
                                SYS_set_robust_list,
                                SYS_rseq,
                                SYS_sched_yield,
                                SYS_sched_getaffinity,
                                SYS_tgkill,
                                SYS_kill,
                                SYS_wait4,
                                SYS_waitid,
                                SYS_pidfd_open,
                                SYS_poll,
                                SYS_ppoll,
                                SYS_epoll_ctl,
                                SYS_epoll_wait,
                                SYS_eventfd2,
                                SYS_setsockopt,
                                SYS_sendto,
                                SYS_recvmsg,
                                SYS_shutdown,
                                SYS_getsockopt,
                                SYS_getsockname,
                                SYS_getpeername,
                                SYS_accept4,
                                SYS_sendmsg,
                                SYS_process_vm_readv,
                                SYS_process_vm_writev,
                                SYS_clock_nanosleep,
                                SYS_clock_gettime,
                                SYS_clock_getres,
                                SYS_getrandom,
                                SYS_exit,
                                SYS_exit_group,
                                SYS_rt_sigprocmask,
                                SYS_rt_sigreturn,
                                SYS_rt_sigtimedwait,
                                SYS_getpid,
                                SYS_gettid,
                                SYS_getdents64,
                                SYS_restart_syscall};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// What the sanitizers' runtimes call besides: at threads' beginnings and ends, and for a report.
constexpr uint32_t kOfRuntime[] = {SYS_sigaltstack, SYS_rt_sigaction, SYS_prlimit64,
                                   SYS_readlink,    SYS_stat,         SYS_uname};
#endif

constexpr uint32_t kIoctls[] = {static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_RECV),
                                static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_SEND),
                                static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_ID_VALID),
                                static_cast<uint32_t>(SECCOMP_IOCTL_NOTIF_SET_FLAGS),
                                TCGETS,
                                TCSETS,
                                TCSETSW,
                                TCSETSF,
                                TIOCGWINSZ,
                                TIOCSWINSZ,
                                FIONREAD};

uint32_t argument(int number) {
  return static_cast<uint32_t>(offsetof(seccomp_data, args)) + 8 * static_cast<uint32_t>(number);
}

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t kKill = SECCOMP_RET_KILL_PROCESS;

/// A program over a call's number, which is loaded in between.
class Filter {
 public:
  Filter() {
    load(offsetof(seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    answer(kKill);
    load(offsetof(seccomp_data, nr));
  }
  void add(int what, uint32_t k, uint8_t yes = 0, uint8_t no = 0) {
    code_.push_back({static_cast<uint16_t>(what), yes, no, k});
  }
  void load(uint32_t offset) { add(BPF_LD | BPF_W | BPF_ABS, offset); }
  void answer(uint32_t action) { add(BPF_RET | BPF_K, action); }
  void answer_if(uint32_t value, uint32_t action) {
    add(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    answer(action);
  }
  /// A call with an argument that is `value`, or has one of its bits (`how`: BPF_JEQ, BPF_JSET).
  void answer_by(uint32_t call, int number, int how, uint32_t value, uint32_t yes, uint32_t no) {
    add(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 4);
    load(argument(number));
    add(BPF_JMP | how | BPF_K, value, 0, 1);
    answer(yes);
    answer(no);
  }
  /// What every process of ours meets: its allocator, and what the sanitizers' runtimes call.
  void answer_common() {
    // The allocator asks /proc for the overcommit mode, and takes a refusal for an answer.
    answer_if(SYS_openat, SECCOMP_RET_ERRNO | EACCES);
    for (const auto number : {uint32_t{SYS_mmap}, uint32_t{SYS_mprotect}})
      answer_by(number, 2, BPF_JSET, PROT_EXEC, kKill, kAllow);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    // A report asks for the process's name first.
    answer_if(SYS_open, SECCOMP_RET_ERRNO | EACCES);
    for (uint32_t number : kOfRuntime) answer_if(number, kAllow);
#endif
  }
  /// The rest is deadly; for every thread of ours.
  Result<> install(const char* whose) {
    answer(kKill);
    sock_fprog program{static_cast<unsigned short>(code_.size()), code_.data()};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
      return Error::from_errno(errno, cat("seccomp(", whose, " filter)"));
    return {};
  }

 private:
  std::vector<sock_filter> code_;
};

Filter sentry_filter() {
  Filter out;
  // First, because its answer depends on an argument and is computed at every guest call; what
  // depends on the number alone the kernel looks up.
  out.add(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0,
          static_cast<uint8_t>(2 + 2 * std::size(kIoctls)));
  out.load(argument(1));
  for (uint32_t request : kIoctls) out.answer_if(request, kAllow);
  out.answer(kKill);
  for (uint32_t number : kAlways) out.answer_if(number, kAllow);
  // The C library then uses clone, whose flags can be seen.
  out.answer_if(SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
  out.answer_common();
  out.answer_by(SYS_membarrier, 0, BPF_JEQ, MEMBARRIER_CMD_GLOBAL_EXPEDITED, kAllow, kKill);
  out.answer_by(SYS_clone, 0, BPF_JSET, CLONE_THREAD, kAllow, kKill);
  out.answer_by(SYS_socketpair, 0, BPF_JEQ, AF_UNIX, kAllow, kKill);
  return out;
}

// What it receives, memory for that, and its end, by a signal where its program ended so.
constexpr uint32_t kOfMessenger[] = {
    SYS_read,    SYS_write,          SYS_close,          SYS_poll,         SYS_recvmsg,
    SYS_sendmsg, SYS_signalfd4,      SYS_munmap,         SYS_mremap,       SYS_madvise,
    SYS_brk,     SYS_rt_sigprocmask, SYS_rt_sigaction,   SYS_rt_sigreturn, SYS_getpid,
    SYS_gettid,  SYS_exit_group,     SYS_restart_syscall};

// landlock(7), as of the version that <linux/landlock.h> may lack.
struct LandlockRules {
  uint64_t files = 0;
  uint64_t network = 0;
  uint64_t scoped = 0;
};
constexpr long kNetworkVersion = 4;
constexpr uint64_t kNetworkAccesses = 3;  // BIND_TCP, CONNECT_TCP
constexpr long kScopesVersion = 6;
constexpr uint64_t kScopes = 3;  // ABSTRACT_UNIX_SOCKET, SIGNAL

/// Below 1: there is none.
long landlock_version() {
  return syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

/// All that a version knows: 13 accesses, then REFER, TRUNCATE and IOCTL_DEV.
uint64_t file_accesses(long version) {
  const int count = version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13;
  return (uint64_t{1} << count) - 1;
}

/// Nothing of what the rules handle is allowed. Fields that the kernel does not know must be 0.
Result<> restrict_self(const LandlockRules& rules) {
  const long ruleset = syscall(SYS_landlock_create_ruleset, &rules, sizeof rules, 0);
  if (ruleset < 0) return Error::from_errno(errno, "landlock_create_ruleset");
  const long done = syscall(SYS_landlock_restrict_self, ruleset, 0);
  const int failure = errno;
  close(static_cast<int>(ruleset));
  if (done != 0) return Error::from_errno(failure, "landlock_restrict_self");
  return {};
}

Result<> gain_nothing() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return Error::from_errno(errno, "prctl(PR_SET_NO_NEW_PRIVS)");
  return {};
}

Result<> not_dumpable() {
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
    return Error::from_errno(errno, "prctl(PR_SET_DUMPABLE)");
  return {};
}

}  // namespace

Result<> stay_among_children() {
  if (landlock_version() < kScopesVersion) return {};
  FLUYT_TRY(gain_nothing());
  return restrict_self({.scoped = kScopes});
}

Result<> drop_privileges() {
  FLUYT_TRY(gain_nothing());
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  if (syscall(SYS_capset, &header, none) != 0) return Error::from_errno(errno, "capset(none)");
  const long version = landlock_version();
  if (version < 1) return {};  // the filter stands alone there
  return restrict_self({.files = file_accesses(version),
                        .network = version >= kNetworkVersion ? kNetworkAccesses : 0});
}

Result<> leave_tree() {
  if (unshare(CLONE_NEWNS) != 0) return Error::from_errno(errno, "unshare(CLONE_NEWNS)");
  FLUYT_TRY(sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree));
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("tmpfs"));
  FLUYT_TRY(context.set_string("nr_inodes", "1"));
  FLUYT_TRY(context.set_string("mode", "0555"));
  const sys::Fd root = FLUYT_TRY(
      context.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  FLUYT_TRY(sys::attach_over_root(root));
  FLUYT_TRY(sys::change_directory(root));
  return sys::pivot_to_working_directory();
}

Result<> confine_sentry() {
  FLUYT_TRY(not_dumpable());
  return sentry_filter().install("the sentry's");
}

Result<> confine_messenger() {
  FLUYT_TRY(not_dumpable());
  Filter filter;
  for (uint32_t number : kOfMessenger) filter.answer_if(number, kAllow);
  filter.answer_common();
  filter.answer_by(SYS_tgkill, 0, BPF_JEQ, static_cast<uint32_t>(getpid()), kAllow, kKill);
  return filter.install("a messenger's");
}

}  // namespace fluyt::guest::host
