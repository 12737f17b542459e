#include "confine.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <vector>

#include "base/strings.h"

namespace fluyt {

namespace {

Error failed(std::string_view call) {
  const int error = errno;
  return Error::from_errno(error, call);
}

// The whole world of this process becomes the staging tree: a clone of the mount it is on, cut down
// to that one directory, takes the place of the root, and the old root is let go.
Result<> enter(sys::Fd& tree) {
  // Both before unshare(2): `tree` is a descriptor of the old namespace's mount and of no use in
  // the new one, while a detached clone may go anywhere, and the working directory comes along.
  const sys::Fd clone(static_cast<int>(
      syscall(SYS_open_tree, tree.raw(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)));
  if (!clone.valid()) return failed("open_tree(staging)");
  if (fchdir(tree.raw()) != 0) return failed("fchdir(staging)");
  if (unshare(CLONE_NEWNS) != 0) return failed("unshare(CLONE_NEWNS)");
  // Nothing of what follows may travel back to the host's mount table.
  if (syscall(SYS_mount, "none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return failed("mount(\"/\", MS_REC|MS_PRIVATE)");
  }
  mount_attr attributes{};
  attributes.attr_set =
      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
  attributes.propagation = MS_PRIVATE;
  if (syscall(SYS_mount_setattr, clone.raw(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) !=
      0) {
    return failed("mount_setattr(staging)");
  }
  if (syscall(SYS_move_mount, clone.raw(), "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return failed("move_mount(staging)");
  }
  if (fchdir(clone.raw()) != 0) return failed("fchdir(staging)");
  if (syscall(SYS_pivot_root, ".", ".") != 0) return failed("pivot_root(staging)");
  // The old root now lies over the new one at "/": "." is still the new one underneath.
  constexpr int kDetach = 2;  // MNT_DETACH; <sys/mount.h> and <linux/mount.h> do not go together
  if (syscall(SYS_umount2, ".", kDetach) != 0) return failed("umount2(old root)");
  if (chdir("/") != 0) return failed("chdir(\"/\")");
  tree = sys::Fd(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return tree.valid() ? Result<>() : Result<>(failed("open(\"/\")"));
}

// SYS_ADMIN is for trusted.* attributes (overlayfs's opaque mark) alone; the filter below leaves it
// nothing else to do.
constexpr uint64_t kCapabilities = 1ULL << CAP_CHOWN | 1ULL << CAP_DAC_OVERRIDE |
                                   1ULL << CAP_FOWNER | 1ULL << CAP_FSETID | 1ULL << CAP_MKNOD |
                                   1ULL << CAP_SETFCAP | 1ULL << CAP_SYS_ADMIN;

Result<> drop_capabilities() {
  if (setgroups(0, nullptr) != 0) return failed("setgroups(0)");
  for (int capability = 0; capability < 64; ++capability) {
    if ((kCapabilities >> static_cast<unsigned>(capability) & 1U) != 0) continue;
    if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    if (errno == EINVAL) break;  // the kernel knows no more of them
    if (errno != EPERM) return failed("prctl(PR_CAPBSET_DROP)");
  }
  __user_cap_header_struct header{};
  header.version = _LINUX_CAPABILITY_VERSION_3;
  std::array<__user_cap_data_struct, 2> data{};
  if (syscall(SYS_capget, &header, data.data()) != 0) return failed("capget()");
  for (size_t i = 0; i < data.size(); ++i) {
    const auto wanted = static_cast<uint32_t>(kCapabilities >> (32 * i));
    data[i].permitted &= wanted;
    data[i].effective = data[i].permitted;
    data[i].inheritable = 0;
  }
  if (syscall(SYS_capset, &header, data.data()) != 0) return failed("capset()");
  return {};
}

// Reading, waiting for what is read, making files, how full the disk is, memory, time, and ending.
// No sockets, no processes, no mounts, no exec. By name_to_handle_at() a removal of many levels
// knows its way back (sys::DirStack); to open such a handle takes a call and a capability that are
// not here. Attributes are read back for the manifest.
constexpr auto kAllowed = std::to_array<uint32_t>({
    SYS_read,          SYS_pread64,         SYS_write,    SYS_pwrite64,   SYS_writev,
    SYS_close,         SYS_lseek,           SYS_fcntl,    SYS_ftruncate,  SYS_fstat,
    SYS_newfstatat,    SYS_statx,           SYS_openat,   SYS_openat2,    SYS_mkdirat,
    SYS_unlinkat,      SYS_symlinkat,       SYS_linkat,   SYS_mknodat,    SYS_readlinkat,
    SYS_getdents64,    SYS_fchown,          SYS_fchownat, SYS_fchmod,     SYS_fchmodat,
    SYS_utimensat,     SYS_fsetxattr,       SYS_brk,      SYS_mmap,       SYS_munmap,
    SYS_mremap,        SYS_mprotect,        SYS_madvise,  SYS_futex,      SYS_getrandom,
    SYS_clock_gettime, SYS_getpid,          SYS_gettid,   SYS_tgkill,     SYS_rt_sigprocmask,
    SYS_rt_sigreturn,  SYS_restart_syscall, SYS_exit,     SYS_exit_group, SYS_name_to_handle_at,
    SYS_flistxattr,    SYS_fgetxattr,       SYS_fstatfs,  SYS_ppoll,
#if defined(SYS_poll)
    SYS_poll,
#endif
});

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
constexpr uint32_t kX32Bit = 0x40000000;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "fluyt-unpack has no system call filter for this architecture"
#endif

sock_filter statement(uint16_t code, uint32_t value) { return {code, 0, 0, value}; }
sock_filter jump(uint16_t code, uint32_t value, size_t yes, size_t no) {
  return {code, static_cast<uint8_t>(yes), static_cast<uint8_t>(no), value};
}

[[maybe_unused]] Result<> filter_calls() {
  std::vector<sock_filter> program;
  program.push_back(statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
  program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0));
  program.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  program.push_back(statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
#if defined(__x86_64__)
  program.push_back(jump(BPF_JMP | BPF_JGE | BPF_K, kX32Bit, kAllowed.size(), 0));
#endif
  for (size_t i = 0; i < kAllowed.size(); ++i) {
    program.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, kAllowed[i], kAllowed.size() - i, 0));
  }
  program.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
  program.push_back(statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  static_assert(kAllowed.size() < 255, "jump distances are one byte");
  sock_fprog filter{static_cast<uint16_t>(program.size()), program.data()};
  // Of all threads; were there one that cannot have it, its number would be the answer.
  const long answer =
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter);
  if (answer < 0) return failed("seccomp(SECCOMP_SET_MODE_FILTER)");
  if (answer > 0) return Error(Code::kInternal, cat("seccomp: thread ", answer, " differs"));
  return {};
}

}  // namespace

Result<> confine(sys::Fd& tree) {
  FLUYT_TRY(enter(tree));
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return failed("setrlimit(RLIMIT_CORE)");
  FLUYT_TRY(drop_capabilities());
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return failed("prctl(PR_SET_DUMPABLE)");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("prctl(PR_SET_NO_NEW_PRIVS)");
  return {};
}

Result<> confine_calls() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  // Sanitizers make calls of their own; everything else is confined in their builds too.
  FLUYT_TRY(filter_calls());
#endif
  return {};
}

}  // namespace fluyt
