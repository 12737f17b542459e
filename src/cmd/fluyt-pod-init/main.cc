// The first process of a pod's PID namespace. Any container of the pod that has CAP_SYS_PTRACE may
// look into it, so there is nothing in it: no C library, no heap, no descriptors, no environment
// (the monitor sees to those), and after three calls a filter that leaves pause(2), the return from
// a signal, and exit. It need not even wait for its children: with SIGCHLD ignored the kernel reaps
// whatever is reparented to it (wait(2), NOTES).
//
// Without a C library, so that a hundred pods share one page of code and each owns but its stack.

#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <stddef.h>

namespace {

#if defined(__x86_64__)
constexpr unsigned kArch = AUDIT_ARCH_X86_64;
constexpr long kPause = __NR_pause;
#elif defined(__aarch64__)
constexpr unsigned kArch = AUDIT_ARCH_AARCH64;
constexpr long kPause = __NR_rt_sigsuspend;
#else
#error "fluyt-pod-init: say here how a system call is made"
#endif

long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                   : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return x0;
#endif
}

long address(const void* pointer) { return reinterpret_cast<long>(pointer); }

[[noreturn]] void end(long status) {
  while (true) call(__NR_exit_group, status);
}

void ignore_children() {
  // struct sigaction as the kernel has it: SIG_IGN is 1.
  struct {
    unsigned long handler = 1;
    unsigned long flags = 0;
    unsigned long restorer = 0;
    unsigned long mask = 0;
  } ignore;
  constexpr long kSigchld = 17;
  if (call(__NR_rt_sigaction, kSigchld, address(&ignore), 0, sizeof ignore.mask) != 0) end(1);
}

void confine() {
  const sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArch, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(kPause), 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_rt_sigreturn, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof filter / sizeof filter[0], const_cast<sock_filter*>(filter)};
  if (call(__NR_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, address(&program)) != 0) end(1);
}

}  // namespace

extern "C" [[noreturn]] void pod_init_main() {
  call(__NR_prctl, PR_SET_NAME, address("fluyt-pod-init"));
  // Its files in /proc belong to root then, and a process of the same uid cannot trace it.
  if (call(__NR_prctl, PR_SET_DUMPABLE, 0) != 0) end(1);
  if (call(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1) != 0) end(1);
  ignore_children();
  confine();
  while (true) {
#if defined(__x86_64__)
    call(kPause);
#else
    const unsigned long nothing_blocked = 0;
    call(kPause, address(&nothing_blocked), sizeof nothing_blocked);
#endif
  }
}

// The stack is aligned as the calling convention wants it.
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txorl %ebp, %ebp\n\tandq $-16, %rsp\n\tcall pod_init_main\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, xzr\n\tbl pod_init_main\n");
#endif
