#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>

#include <csetjmp>
#include <csignal>
#include <cstdint>
#include <ctime>

#include "calls.h"

namespace calls {
namespace {

volatile sig_atomic_t count;
volatile sig_atomic_t last;
volatile int last_code;
volatile long last_value;
volatile bool on_alternate;
char alternate[65536];
constexpr int kAutoDisarm = INT32_MIN;  // SS_AUTODISARM
std::string order;

void note(int signal) {
  count = count + 1;
  last = signal;
  char here = 0;
  on_alternate = &here >= alternate && &here < alternate + sizeof alternate;
}
void note_info(int signal, siginfo_t* info, void*) {
  note(signal);
  last_code = info->si_code;
  last_value = info->si_value.sival_int;
  order += std::to_string(signal) + " ";
}
void install(int signal, int flags, void (*handler)(int, siginfo_t*, void*) = note_info) {
  struct sigaction action{};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | flags;
  sigaction(signal, &action, nullptr);
}
sigset_t set_of(int a, int b = 0) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, a);
  if (b != 0) sigaddset(&set, b);
  return set;
}
/// A child that signals us after a while.
pid_t later(int signal, long ms) {
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    const timespec nap{ms / 1000, ms % 1000 * 1000000};
    nanosleep(&nap, nullptr);
    kill(parent, signal);
    _exit(0);
  }
  return child;
}

}  // namespace

void signals() {
  begin("sigaction");
  struct sigaction action{};
  action.sa_handler = SIG_IGN;
  value("SIGKILL", sigaction(SIGKILL, &action, nullptr));
  value("SIGSTOP", sigaction(SIGSTOP, &action, nullptr));
  value("0", syscall(SYS_rt_sigaction, 0, nullptr, nullptr, 8));
  value("65", syscall(SYS_rt_sigaction, 65, nullptr, nullptr, 8));
  value("bad size", syscall(SYS_rt_sigaction, SIGUSR1, nullptr, nullptr, 4));
  begin("kill");
  install(SIGUSR1, 0);
  value("self", kill(getpid(), SIGUSR1));
  value("handled", count);
  value("code", last_code);
  value("nobody", kill(999999, 0));
  value("bad signal", kill(getpid(), 99));
  value("probe", kill(getpid(), 0));
  value("no such group", kill(-999999, SIGUSR1));
  value("tgkill wrong group", syscall(SYS_tgkill, 1 << 20, getpid(), 0));
  value("tgkill", syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
  value("its code", last_code);
  value("tkill 0", syscall(SYS_tkill, 0, SIGUSR1));
  begin("sigprocmask");
  count = 0;
  sigset_t old;
  sigset_t set = set_of(SIGUSR1);
  value("block", sigprocmask(SIG_BLOCK, &set, &old));
  raise(SIGUSR1);
  raise(SIGUSR1);
  value("not delivered", count);
  sigset_t pending;
  value("pending", sigpending(&pending));
  truth("is", sigismember(&pending, SIGUSR1) == 1);
  value("unblock", sigprocmask(SIG_UNBLOCK, &set, nullptr));
  value("once", count);
  value("bad how", sigprocmask(77, &set, nullptr));
  set = set_of(SIGKILL, SIGSTOP);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  sigprocmask(SIG_BLOCK, nullptr, &old);
  truth("SIGKILL cannot be", sigismember(&old, SIGKILL) == 0);
  begin("flags");
  install(SIGUSR1, static_cast<int>(SA_RESETHAND));
  raise(SIGUSR1);
  sigaction(SIGUSR1, nullptr, &action);
  truth("SA_RESETHAND", action.sa_handler == SIG_DFL);
  install(SIGUSR1, 0, [](int, siginfo_t*, void*) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, nullptr, &now);
    last = sigismember(&now, SIGUSR1);
  });
  raise(SIGUSR1);
  value("blocked in its handler", last);
  install(SIGUSR1, SA_NODEFER, [](int, siginfo_t*, void*) {
    sigset_t now;
    sigprocmask(SIG_BLOCK, nullptr, &now);
    last = sigismember(&now, SIGUSR1);
  });
  raise(SIGUSR1);
  value("not with SA_NODEFER", last);
  begin("sigaltstack");
  stack_t stack{};
  stack.ss_sp = alternate;
  stack.ss_size = sizeof alternate;
  value("set", sigaltstack(&stack, nullptr));
  install(SIGUSR1, SA_ONSTACK);
  raise(SIGUSR1);
  truth("used", on_alternate);
  install(SIGUSR1, 0);
  raise(SIGUSR1);
  truth("not without the flag", on_alternate);
  stack.ss_size = 100;
  value("too small", sigaltstack(&stack, nullptr));
  stack.ss_flags = 77;
  value("bad flags", sigaltstack(&stack, nullptr));
  stack_t now{};
  value("get", sigaltstack(nullptr, &now));
  truth("is ours", now.ss_sp == alternate && now.ss_size == sizeof alternate);
  line("disarmed at its first use", in_child([] {
         stack_t once{};
         once.ss_sp = alternate;
         once.ss_size = sizeof alternate;
         once.ss_flags = kAutoDisarm;
         value("SS_AUTODISARM", sigaltstack(&once, nullptr));
         install(SIGUSR1, SA_ONSTACK, [](int, siginfo_t*, void*) {
           stack_t within{};
           sigaltstack(nullptr, &within);
           last = within.ss_flags;
         });
         raise(SIGUSR1);
         value("in its handler", last);
         stack_t behind{};
         sigaltstack(nullptr, &behind);
         truth("armed again", behind.ss_flags == kAutoDisarm && behind.ss_size == sizeof alternate);
         return 0;
       }));
  line("what does not fit", in_child([] {
         static char memory[1 << 17];
         stack_t small{};
         small.ss_sp = memory + (1 << 16);
         small.ss_size = 16384;
         sigaltstack(&small, nullptr);
         count = 0;
         install(SIGUSR1, static_cast<int>(SA_ONSTACK | SA_NODEFER), [](int, siginfo_t*, void*) {
           count = count + 1;
           if (count < 30) syscall(SYS_kill, getpid(), SIGUSR1);
         });
         raise(SIGUSR1);
         return 0;
       }));
  begin("real time");
  order.clear();
  set = set_of(SIGRTMIN + 1, SIGRTMIN + 2);
  install(SIGRTMIN + 1, 0);
  install(SIGRTMIN + 2, 0);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  sigval number{};
  for (int i = 0; i < 3; ++i) {
    number.sival_int = i;
    sigqueue(getpid(), SIGRTMIN + 2, number);
  }
  number.sival_int = 77;
  sigqueue(getpid(), SIGRTMIN + 1, number);
  count = 0;
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  value("all come", count);
  begin("sigtimedwait");
  set = set_of(SIGUSR2);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  const timespec soon{0, 20'000'000};
  siginfo_t info{};
  value("timeout", sigtimedwait(&set, &info, &soon));
  raise(SIGUSR2);
  value("taken", sigtimedwait(&set, &info, &soon));
  pid_t child = later(SIGUSR2, 20);
  const timespec long_time{5, 0};
  value("comes later", sigtimedwait(&set, &info, &long_time));
  truth("from the child", info.si_pid == child);
  waitpid(child, nullptr, 0);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  begin("sigsuspend");
  install(SIGUSR1, 0);
  set = set_of(SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  count = 0;
  child = later(SIGUSR1, 20);
  sigset_t none;
  sigemptyset(&none);
  sigaddset(&none, SIGCHLD);
  value("ends", sigsuspend(&none));
  value("handled", count);
  sigprocmask(SIG_BLOCK, nullptr, &old);
  truth("mask is back", sigismember(&old, SIGUSR1) == 1);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  waitpid(child, nullptr, 0);
  begin("restart");
  int ends[2];
  ok("pipe", pipe(ends));
  char byte = 0;
  install(SIGUSR1, 0);
  child = later(SIGUSR1, 20);
  value("read without SA_RESTART", read(ends[0], &byte, 1));
  waitpid(child, nullptr, 0);
  install(SIGUSR1, SA_RESTART);
  count = 0;
  child = fork();
  if (child == 0) {
    const timespec nap{0, 20'000'000};
    nanosleep(&nap, nullptr);
    kill(getppid(), SIGUSR1);
    nanosleep(&nap, nullptr);
    _exit(write(ends[1], "x", 1) == 1 ? 0 : 1);
  }
  value("read with SA_RESTART", read(ends[0], &byte, 1));
  value("handled", count);
  waitpid(child, nullptr, 0);
  child = later(SIGUSR1, 20);
  timespec rest{};
  value("nanosleep is never restarted", nanosleep(&long_time, &rest));
  truth("time is left", rest.tv_sec == 4);
  waitpid(child, nullptr, 0);
  child = later(SIGUSR1, 20);
  value("pause", pause());
  waitpid(child, nullptr, 0);
  close(ends[0]);
  close(ends[1]);
  begin("default");
  line("SIGTERM", in_child([] { return raise(SIGTERM); }));
  line("SIGCHLD", in_child([] { return raise(SIGCHLD); }));
  line("SIGWINCH", in_child([] { return raise(SIGWINCH); }));
  line("SIGRTMIN", in_child([] {
         signal(SIGRTMIN, SIG_DFL);
         return raise(SIGRTMIN);
       }));
  line("ignored survives exec's rule", in_child([] {
         signal(SIGTERM, SIG_IGN);
         return raise(SIGTERM);
       }));
  begin("SIGCHLD");
  count = 0;
  install(SIGCHLD, 0);
  child = fork();
  if (child == 0) _exit(3);
  int status = 0;
  while (waitpid(child, &status, 0) == -1 && errno == EINTR) {
  }
  value("comes", last);
  value("code", last_code);
  signal(SIGCHLD, SIG_IGN);
  child = fork();
  if (child == 0) _exit(3);
  value("ignored: nobody to wait for", waitpid(child, &status, 0));
  signal(SIGCHLD, SIG_DFL);
  begin("context");
  install(SIGUSR1, 0, [](int, siginfo_t*, void* context) {
    // What a handler changes in its frame is what the program goes on with.
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_R15] = 0x1234;
  });
  long r15 = 0;
  const long pid = getpid();
  __asm__ volatile(
      "mov $39, %%eax\n syscall\n xor %%r15, %%r15\n"
      "mov $62, %%eax\n mov %1, %%rdi\n mov $10, %%esi\n syscall\n mov %%r15, %0"
      : "=r"(r15)
      : "r"(pid)
      : "rax", "rcx", "r11", "rdi", "rsi", "r15", "memory");
  value("register from the frame", r15);
  double x = 1.5;
  install(SIGUSR1, 0, [](int, siginfo_t*, void*) {
    volatile double y = 3.25;
    y = y * 2;
  });
  __asm__ volatile("movsd %0, %%xmm7" : : "m"(x) : "xmm7");
  raise(SIGUSR1);
  truth("floating point survives", x * 2 == 3.0);
  // Division by zero, an illegal instruction, a breakpoint.
  begin("exceptions");
  line("SIGFPE", in_child([] {
         volatile int zero = 0;
         return 1 / zero;
       }));
  line("SIGILL", in_child([] {
         __asm__ volatile("ud2");
         return 0;
       }));
  line("SIGTRAP", in_child([] {
         __asm__ volatile("int3");
         return 0;
       }));
}

}  // namespace calls
