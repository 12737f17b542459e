#include "spec/default_seccomp.h"

#include <algorithm>
#include <span>

#include "base/strings.h"

namespace fluyt::spec {
namespace {

constexpr const char* kAllow = "SCMP_ACT_ALLOW";
constexpr const char* kRefuse = "SCMP_ACT_ERRNO";
constexpr const char* kMaskedEqual = "SCMP_CMP_MASKED_EQ";
constexpr uint32_t kEperm = 1;
constexpr uint32_t kEnosys = 38;

using Words = std::string_view;  // names with a space between

// What an ordinary program may ask of the kernel, by what it is about. Spellings of 32-bit machines
// stand beside those of 64-bit ones: a name that an architecture does not have is passed over.
constexpr Words kFiles =
    "access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup "
    "dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir "
    "fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr "
    "flistxattr flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync "
    "ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat "
    "inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lchown32 "
    "lgetxattr link linkat listmount listxattr listxattrat llistxattr _llseek lremovexattr "
    "lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat "
    "open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead "
    "readlink readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir "
    "sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statmount statx "
    "symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink "
    "unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev";
constexpr Words kMemory =
    "brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 "
    "mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc "
    "pkey_free pkey_mprotect process_mrelease remap_file_pages shmat shmctl shmdt shmget";
constexpr Words kProcesses =
    "capget capset execve execveat exit exit_group fork getcpu getegid getegid32 geteuid "
    "geteuid32 getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority "
    "getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid get_thread_area "
    "gettid getuid getuid32 ioprio_get ioprio_set landlock_add_rule landlock_create_ruleset "
    "landlock_restrict_self pidfd_open prctl prlimit64 process_vm_readv process_vm_writev "
    "ptrace rseq sched_getaffinity sched_getattr sched_getparam sched_get_priority_max "
    "sched_get_priority_min sched_getscheduler sched_rr_get_interval "
    "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
    "sched_setscheduler sched_yield seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid "
    "setgid32 setgroups setgroups32 setpgid setpriority setregid setregid32 setresgid "
    "setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid set_thread_area "
    "set_tid_address setuid setuid32 sysinfo times ugetrlimit uname vfork wait4 waitid waitpid";
constexpr Words kSignals =
    "alarm kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending "
    "rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait "
    "rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask "
    "sigreturn tgkill tkill uretprobe";
constexpr Words kTime =
    "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
    "clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep "
    "setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 "
    "timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 "
    "timerfd_settime timerfd_settime64";
constexpr Words kWaiting =
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
    "epoll_wait_old eventfd eventfd2 futex futex_requeue futex_time64 futex_wait futex_waitv "
    "futex_wake get_robust_list io_cancel io_destroy io_getevents io_pgetevents "
    "io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 poll ppoll ppoll_time64 "
    "pselect6 pselect6_time64 select set_robust_list";
constexpr Words kTalking =
    "accept accept4 bind connect getpeername getrandom getsockname getsockopt ipc listen "
    "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
    "mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv recvfrom recvmmsg "
    "recvmmsg_time64 recvmsg semctl semget semop semtimedop semtimedop_time64 send sendmmsg "
    "sendmsg sendto setsockopt shutdown socketpair";
constexpr Words kAlways[] = {kFiles, kMemory, kProcesses, kSignals, kTime, kWaiting, kTalking};

// What a capability opens. Without it the kernel would refuse most of these anyway: the list keeps
// code that no container should reach from being reached.
constexpr Words kWithSysAdmin =
    "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount "
    "mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname "
    "sethostname setns syslog umount umount2 unshare";
constexpr Words kWithDacReadSearch = "open_by_handle_at";
constexpr Words kWithSysBoot = "reboot";
constexpr Words kWithSysChroot = "chroot";
constexpr Words kWithSysModule = "delete_module finit_module init_module";
constexpr Words kWithSysPacct = "acct";
constexpr Words kWithSysPtrace = "kcmp pidfd_getfd process_madvise";
constexpr Words kWithSysRawio = "ioperm iopl";
constexpr Words kWithSysTime = "clock_settime clock_settime64 settimeofday stime";
constexpr Words kWithSysTtyConfig = "vhangup";
constexpr Words kWithSysNice = "get_mempolicy mbind set_mempolicy set_mempolicy_home_node";
constexpr Words kWithSyslog = "syslog";
constexpr Words kWithBpf = "bpf";
constexpr Words kWithPerfmon = "perf_event_open";

struct Opened {
  const char* capability;
  Words names;
};
constexpr Opened kOpened[] = {{"CAP_SYS_ADMIN", kWithSysAdmin},
                              {"CAP_DAC_READ_SEARCH", kWithDacReadSearch},
                              {"CAP_SYS_BOOT", kWithSysBoot},
                              {"CAP_SYS_CHROOT", kWithSysChroot},
                              {"CAP_SYS_MODULE", kWithSysModule},
                              {"CAP_SYS_PACCT", kWithSysPacct},
                              {"CAP_SYS_PTRACE", kWithSysPtrace},
                              {"CAP_SYS_RAWIO", kWithSysRawio},
                              {"CAP_SYS_TIME", kWithSysTime},
                              {"CAP_SYS_TTY_CONFIG", kWithSysTtyConfig},
                              {"CAP_SYS_NICE", kWithSysNice},
                              {"CAP_SYSLOG", kWithSyslog},
                              {"CAP_BPF", kWithBpf},
                              {"CAP_PERFMON", kWithPerfmon}};

// The machine's own calls, and the ABIs that its kernel runs beside its own.
constexpr Words kAmd64Calls = "arch_prctl modify_ldt";
constexpr Words k386Calls = "modify_ldt";
constexpr Words kArmCalls =
    "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";
constexpr Words kPpcCalls = "swapcontext sync_file_range2";
constexpr Words kRiscvCalls = "riscv_flush_icache riscv_hwprobe";
constexpr Words kS390Calls = "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr";
constexpr Words kAmd64Abis = "SCMP_ARCH_X86_64 SCMP_ARCH_X86 SCMP_ARCH_X32";
constexpr Words k386Abis = "SCMP_ARCH_X86";
constexpr Words kArm64Abis = "SCMP_ARCH_AARCH64 SCMP_ARCH_ARM";
constexpr Words kArmAbis = "SCMP_ARCH_ARM";
constexpr Words kPpcAbis = "SCMP_ARCH_PPC64LE";
constexpr Words kRiscvAbis = "SCMP_ARCH_RISCV64";
constexpr Words kS390Abis = "SCMP_ARCH_S390X SCMP_ARCH_S390";
constexpr Words kLoongAbis = "SCMP_ARCH_LOONGARCH64";

struct Machine {
  std::string_view architecture;
  Words calls;
  Words abis;
  uint32_t clone_flags_index = 0;
};
constexpr Machine kMachines[] = {{"amd64", kAmd64Calls, kAmd64Abis},
                                 {"386", k386Calls, k386Abis},
                                 {"arm64", kArmCalls, kArm64Abis},
                                 {"arm", kArmCalls, kArmAbis},
                                 {"ppc64le", kPpcCalls, kPpcAbis},
                                 {"riscv64", kRiscvCalls, kRiscvAbis},
                                 // s390's clone(2) takes the stack first.
                                 {"s390x", kS390Calls, kS390Abis, 1},
                                 {"loong64", {}, kLoongAbis}};

/// CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET.
constexpr uint64_t kCloneNamespaces = 0x7E020000;

/// What a program may be: Linux, Linux for 32 bits, each also as kernel 2.6; all ones asks only.
constexpr uint64_t kPersonalities[] = {0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF};

struct Masked {
  uint64_t mask;
  uint64_t value;
};
/// Every address family up to 47 but AF_ALG, 38, and AF_VSOCK, 40: neither knows of namespaces, and
/// the kernel's crypto behind AF_ALG has been a way out (CVE-2026-31431). The kernel looks at 32
/// bits of the argument, and so do we: a family with higher bits set is the same family.
constexpr Masked kFamilies[] = {{0xFFFFFFE0, 0},  {0xFFFFFFFC, 32}, {0xFFFFFFFE, 36},
                                {0xFFFFFFFF, 39}, {0xFFFFFFFF, 41}, {0xFFFFFFFE, 42},
                                {0xFFFFFFFC, 44}};
/// socketcall(2)'s calls 2 to 20. Its call 1 is socket(2) with the family out of a filter's sight:
/// programs that old get EPERM there.
constexpr Masked kSocketCalls[] = {
    {0xFFFFFFFE, 2}, {0xFFFFFFFC, 4}, {0xFFFFFFF8, 8}, {0xFFFFFFFC, 16}, {0xFFFFFFFF, 20}};

const Machine* find_machine(std::string_view architecture) {
  const auto* it =
      std::find_if(std::begin(kMachines), std::end(kMachines),
                   [&](const Machine& machine) { return machine.architecture == architecture; });
  return it == std::end(kMachines) ? nullptr : it;
}

void add_names(std::vector<std::string>& out, Words names) {
  for (const std::string_view name : split_words(names)) {
    out.emplace_back(name);
  }
}

void allow_masked(oci::Seccomp& out, const char* name, std::span<const Masked> values) {
  for (const Masked& one : values) {
    out.syscalls.push_back(
        {.names = {name},
         .action = kAllow,
         .args = {{.index = 0, .value = one.mask, .value_two = one.value, .op = kMaskedEqual}}});
  }
}

/// Without CAP_SYS_ADMIN: no new namespaces. clone3(2) keeps its flags in memory, where a filter
/// cannot look; C libraries fall back to clone(2) when it is not there.
void restrict_clone(oci::Seccomp& out, const Machine* machine) {
  out.syscalls.push_back({.names = {"clone"},
                          .action = kAllow,
                          .args = {{.index = machine == nullptr ? 0 : machine->clone_flags_index,
                                    .value = kCloneNamespaces,
                                    .value_two = 0,
                                    .op = kMaskedEqual}}});
  out.syscalls.push_back({.names = {"clone3"}, .action = kRefuse, .errno_ret = kEnosys});
}

}  // namespace

oci::Seccomp default_seccomp(const std::vector<std::string>& capabilities,
                             std::string_view architecture) {
  const auto holds = [&](std::string_view name) {
    return std::find(capabilities.begin(), capabilities.end(), name) != capabilities.end();
  };
  const Machine* machine = find_machine(architecture);
  std::vector<std::string> names;
  for (const Words group : kAlways) {
    add_names(names, group);
  }
  if (machine != nullptr) {
    add_names(names, machine->calls);
  }
  for (const Opened& opened : kOpened) {
    if (holds(opened.capability)) {
      add_names(names, opened.names);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());

  oci::Seccomp out;
  out.default_action = kRefuse;
  out.default_errno_ret = kEperm;
  if (machine != nullptr) {
    add_names(out.architectures, machine->abis);
  }
  out.syscalls.push_back({.names = std::move(names), .action = kAllow});
  allow_masked(out, "socket", kFamilies);
  allow_masked(out, "socketcall", kSocketCalls);
  for (const uint64_t personality : kPersonalities) {
    out.syscalls.push_back(
        {.names = {"personality"},
         .action = kAllow,
         .args = {{.index = 0, .value = personality, .value_two = 0, .op = "SCMP_CMP_EQ"}}});
  }
  if (!holds("CAP_SYS_ADMIN")) {
    restrict_clone(out, machine);
  }
  return out;
}

}  // namespace fluyt::spec
