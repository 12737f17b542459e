#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <vector>

#include "calls.h"

namespace calls {
namespace {

using Code = std::vector<sock_filter>;
constexpr uint32_t kNumber = offsetof(seccomp_data, nr);

/// `action` for getppid, ALLOW for everything else.
Code on_getppid(uint32_t action) {
  return {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1), BPF_STMT(BPF_RET | BPF_K, action),
          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
}
long install(Code code, unsigned flags = 0) {
  sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
long allow_all(unsigned flags = 0) {
  return install({BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}, flags);
}
int after(uint32_t action) {
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (install(on_getppid(action)) != 0) return 99;
  errno = 0;
  return syscall(SYS_getppid) == -1 ? errno : 100;
}

siginfo_t seen{};
std::atomic<int> seen_rax{0};
void on_sys(int, siginfo_t* info, void*) { seen = *info; }

void actions() {
  begin("seccomp actions");
  line("errno", in_child([] { return after(SECCOMP_RET_ERRNO | 77); }));
  line("errno 0", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         install(on_getppid(SECCOMP_RET_ERRNO));
         return static_cast<int>(syscall(SYS_getppid));
       }));
  line("large errno", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         install(on_getppid(SECCOMP_RET_ERRNO | 0xffff));
         syscall(SYS_getppid);
         return errno == 4095 ? 1 : 0;
       }));
  line("trace without a tracer", in_child([] { return after(SECCOMP_RET_TRACE); }));
  line("log", in_child([] { return after(SECCOMP_RET_LOG); }));
  line("kill process", in_child([] { return after(SECCOMP_RET_KILL_PROCESS); }));
  line("kill the only thread", in_child([] { return after(SECCOMP_RET_KILL_THREAD); }));
  line("unknown", in_child([] { return after(0x12340000); }));
  line("trap by default", in_child([] { return after(SECCOMP_RET_TRAP); }));
  line("trap ignored", in_child([] {
         signal(SIGSYS, SIG_IGN);
         return after(SECCOMP_RET_TRAP);
       }));
  line("trap with a handler", in_child([] {
         struct sigaction action{};
         action.sa_sigaction = on_sys;
         action.sa_flags = SA_SIGINFO;
         sigaction(SIGSYS, &action, nullptr);
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         install(on_getppid(SECCOMP_RET_TRAP | 5));
         const long got = syscall(SYS_getppid);
         if (seen.si_signo != SIGSYS || seen.si_code != 1 || seen.si_errno != 5) return 2;
         if (seen.si_syscall != SYS_getppid || seen.si_arch != AUDIT_ARCH_X86_64) return 3;
         if (seen.si_call_addr == nullptr) return 4;
         return got == SYS_getppid ? 1 : 5;
       }));
  line("kill one thread of two", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         pthread_t thread;
         pthread_create(
             &thread, nullptr,
             [](void*) -> void* {
               install(on_getppid(SECCOMP_RET_KILL_THREAD));
               syscall(SYS_getppid);
               _exit(9);
             },
             nullptr);
         usleep(50'000);
         return 7;
       }));
  line("by an argument", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
                  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup, 0, 3),
                  BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args)),
                  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 77, 0, 1),
                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)});
         const bool refused = dup(77) == -1 && errno == EXDEV;
         return refused && dup(78) == -1 && errno == EBADF ? 1 : 0;
       }));
  line("an unknown call", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber),
                  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 999, 0, 1),
                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
                  BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)});
         return syscall(999) == -1 ? errno : 0;
       }));
}

void chains() {
  begin("seccomp chains");
  line("the strictest counts", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         install(on_getppid(SECCOMP_RET_ERRNO | 3));
         install(on_getppid(SECCOMP_RET_ALLOW));
         return syscall(SYS_getppid) == -1 ? errno : 0;
       }));
  line("the last of equals counts", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         install(on_getppid(SECCOMP_RET_ERRNO | 3));
         install(on_getppid(SECCOMP_RET_ERRNO | 4));
         return syscall(SYS_getppid) == -1 ? errno : 0;
       }));
  line("children have it", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         install(on_getppid(SECCOMP_RET_ERRNO | 3));
         int status = 0;
         const pid_t child = fork();
         if (child == 0) _exit(syscall(SYS_getppid) == -1 ? errno : 0);
         waitpid(child, &status, 0);
         return WEXITSTATUS(status);
       }));
  line("every thread has it", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         pthread_t thread;
         static std::atomic<bool> go{false};
         pthread_create(
             &thread, nullptr,
             [](void*) -> void* {
               while (!go) sched_yield();
               _exit(syscall(SYS_getppid) == -1 ? errno : 0);
             },
             nullptr);
         if (install(on_getppid(SECCOMP_RET_ERRNO | 6), SECCOMP_FILTER_FLAG_TSYNC) != 0) return 99;
         go = true;
         for (;;) pause();
         return 0;
       }));
}

void refusals() {
  begin("seccomp refusals");
  value("unknown operation", syscall(SYS_seccomp, 99, 0, nullptr));
  value("strict with flags", syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 1, nullptr));
  value("unknown flags", allow_all(1U << 20));
  value("bad pointer", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, 8));
  value("empty", install({}));
  line("without privilege", in_child([] {
         if (setuid(1000) != 0) return 99;
         return allow_all() == -1 ? errno : 0;
       }));
  line("without privilege, no new ones", in_child([] {
         if (setuid(1000) != 0) return 99;
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         return allow_all() == -1 ? errno : 0;
       }));
  line("no return", in_child([] {
         return install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumber)}) == -1 ? errno : 0;
       }));
  line("beyond the data", in_child([] {
         return install({BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64),
                         BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}) == -1
                    ? errno
                    : 0;
       }));
  uint32_t action = SECCOMP_RET_KILL_PROCESS;
  value("action", syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
  action = 0x12340000;
  value("unknown action", syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action));
  value("mode", prctl(PR_GET_SECCOMP));
  line("mode with a filter", in_child([] {
         prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
         allow_all();
         return prctl(PR_GET_SECCOMP);
       }));
  line("strict", in_child([] {
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
         syscall(SYS_exit, 6);
         return 0;
       }));
  line("strict kills", in_child([] {
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
         syscall(SYS_getppid);
         return 0;
       }));
}

}  // namespace

void seccomp() {
  actions();
  chains();
  refusals();
}

}  // namespace calls
