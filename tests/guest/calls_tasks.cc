#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <ctime>
#include <string>

#include "calls.h"

namespace calls {
namespace {

void burn(int milliseconds) {
  timespec began{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
  for (;;) {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    if ((now.tv_sec - began.tv_sec) * 1000 + (now.tv_nsec - began.tv_nsec) / 1'000'000 >=
        milliseconds)
      return;
  }
}
long user_ms(const rusage& usage) {
  return usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000 +
         usage.ru_stime.tv_sec * 1000 + usage.ru_stime.tv_usec / 1000;
}
long call(long number, long a = 0, long b = 0, long c = 0, long d = 0) {
  return syscall(number, a, b, c, d, 0, 0);
}

void processor_time() {
  begin("processor time");
  line("sleep takes none", in_child([] {
         rusage before{};
         rusage after{};
         getrusage(RUSAGE_SELF, &before);
         usleep(200'000);
         getrusage(RUSAGE_SELF, &after);
         return user_ms(after) - user_ms(before) < 100 ? 1 : 0;
       }));
  line("work takes some", in_child([] {
         burn(100);
         rusage usage{};
         tms ticks{};
         getrusage(RUSAGE_SELF, &usage);
         times(&ticks);
         return user_ms(usage) >= 90 && ticks.tms_utime + ticks.tms_stime >= 9 ? 1 : 0;
       }));
  line("of children that were waited for", in_child([] {
         const pid_t child = fork();
         if (child == 0) {
           burn(100);
           _exit(0);
         }
         rusage of_child{};
         rusage of_all{};
         wait4(child, nullptr, 0, &of_child);
         getrusage(RUSAGE_CHILDREN, &of_all);
         return user_ms(of_child) >= 90 && user_ms(of_all) >= 90 ? 1 : 0;
       }));
  line("begins at 0 in a child", in_child([] {
         burn(100);
         const pid_t child = fork();
         if (child == 0) {
           timespec now{};
           clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
           _exit(now.tv_sec == 0 && now.tv_nsec < 90'000'000 ? 1 : 0);
         }
         int status = 0;
         waitpid(child, &status, 0);
         return WEXITSTATUS(status);
       }));
  line("clock of another process", in_child([] {
         clockid_t clock{};
         timespec now{};
         if (clock_getcpuclockid(getppid(), &clock) != 0) return 9;
         return clock_gettime(clock, &now) == 0 ? 1 : 0;
       }));
  timespec now{};
  value("clock of nobody", clock_gettime(static_cast<clockid_t>((~999999U << 3) | 2), &now));
  line("ITIMER_VIRTUAL", in_child([] {
         static std::atomic<int> fired{0};
         signal(SIGVTALRM, [](int) { ++fired; });
         const itimerval often{{0, 20'000}, {0, 20'000}};
         setitimer(ITIMER_VIRTUAL, &often, nullptr);
         while (fired < 3) burn(1);
         itimerval left{};
         getitimer(ITIMER_VIRTUAL, &left);
         return left.it_interval.tv_usec >= 20'000 ? 1 : 0;
       }));
  line("ITIMER_PROF kills", in_child([] {
         const itimerval soon{{0, 0}, {0, 20'000}};
         setitimer(ITIMER_PROF, &soon, nullptr);
         burn(5000);
         return 0;
       }));
  line("timer_create", in_child([] {
         static std::atomic<int> fired{0};
         signal(SIGUSR1, [](int) { ++fired; });
         sigevent event{};
         event.sigev_notify = SIGEV_SIGNAL;
         event.sigev_signo = SIGUSR1;
         timer_t timer{};
         if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer) != 0) return 9;
         const itimerspec soon{{0, 0}, {0, 20'000'000}};
         timer_settime(timer, 0, &soon, nullptr);
         while (fired == 0) burn(1);
         return 1;
       }));
  line("RLIMIT_CPU", in_child([] {
         const rlimit one{1, 2};
         setrlimit(RLIMIT_CPU, &one);
         burn(5000);
         return 0;
       }));
}

void scheduling() {
  begin("scheduling");
  value("policy", sched_getscheduler(0));
  value("policy of nobody", sched_getscheduler(999999));
  value("policy of a negative", sched_getscheduler(-1));
  const sched_param none{0};
  const sched_param ten{10};
  value("other with a priority", sched_setscheduler(0, SCHED_OTHER, &ten));
  value("unknown policy", sched_setscheduler(0, 77, &none));
  line("batch", in_child([&] {
         return sched_setscheduler(0, SCHED_BATCH, &none) == 0 ? sched_getscheduler(0) : 99;
       }));
  line("fifo as nobody", in_child([&] {
         if (setuid(1000) != 0) return 99;
         return sched_setscheduler(0, SCHED_FIFO, &ten) == -1 ? errno : 0;
       }));
  value("highest", sched_get_priority_max(SCHED_FIFO));
  value("lowest", sched_get_priority_min(SCHED_RR));
  value("highest of other", sched_get_priority_max(SCHED_OTHER));
  value("highest of nothing", sched_get_priority_max(55));
  value("nice", call(SYS_getpriority, PRIO_PROCESS, 0));
  value("nice of nobody", call(SYS_getpriority, PRIO_PROCESS, 999999));
  line("nicer", in_child([] {
         if (setpriority(PRIO_PROCESS, 0, 7) != 0) return 99;
         return getpriority(PRIO_PROCESS, 0);
       }));
  line("children are as nice", in_child([] {
         setpriority(PRIO_PROCESS, 0, 5);
         int status = 0;
         const pid_t child = fork();
         if (child == 0) _exit(getpriority(PRIO_PROCESS, 0));
         waitpid(child, &status, 0);
         return WEXITSTATUS(status);
       }));
  line("not back as nobody", in_child([] {
         setpriority(PRIO_PROCESS, 0, 5);
         if (setuid(1000) != 0) return 99;
         return setpriority(PRIO_PROCESS, 0, 0) == -1 ? errno : 0;
       }));
}

void limits_hold() {
  begin("limits hold");
  line("address space", in_child([] {
         const rlimit some{256 << 20, 256 << 20};
         setrlimit(RLIMIT_AS, &some);
         void* got = mmap(nullptr, 1 << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return got == MAP_FAILED ? errno : 0;
       }));
  line("data", in_child([] {
         const rlimit some{64 << 20, 64 << 20};
         setrlimit(RLIMIT_DATA, &some);
         constexpr size_t kSize = 128 << 20;
         if (mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
           return 99;
         void* got =
             mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return got == MAP_FAILED ? errno : 0;
       }));
  line("processes", in_child([] {
         const rlimit none{0, 0};
         setrlimit(RLIMIT_NPROC, &none);
         if (setuid(54321) != 0) return 99;
         return fork() == -1 ? errno : 0;
       }));
}

void pid_files() {
  begin("pidfd");
  value("of nobody", call(SYS_pidfd_open, 999999, 0));
  value("of 0", call(SYS_pidfd_open, 0, 0));
  value("unknown flags", call(SYS_pidfd_open, getpid(), 1 << 20));
  value("signal through a file", call(SYS_pidfd_send_signal, 0, SIGTERM, 0, 0));
  line("the end is seen", in_child([] {
         const pid_t child = fork();
         if (child == 0) {
           usleep(30'000);
           _exit(5);
         }
         const int fd = static_cast<int>(call(SYS_pidfd_open, child, 0));
         pollfd entry{fd, POLLIN, 0};
         if (poll(&entry, 1, 0) != 0) return 10;
         if (poll(&entry, 1, 5000) != 1 || entry.revents != POLLIN) return 11;
         siginfo_t info{};
         if (waitid(P_PIDFD, static_cast<id_t>(fd), &info, WEXITED) != 0) return 12;
         if (call(SYS_pidfd_send_signal, fd, 0, 0, 0) != -1 || errno != ESRCH) return 13;
         return info.si_status;
       }));
  line("a signal", in_child([] {
         const pid_t child = fork();
         if (child == 0) {
           for (;;) pause();
         }
         const int fd = static_cast<int>(call(SYS_pidfd_open, child, 0));
         if (call(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0) != 0) return 10;
         int status = 0;
         waitpid(child, &status, 0);
         return WTERMSIG(status);
       }));
  line("nobody waits for ever", in_child([] {
         const pid_t child = fork();
         if (child == 0) {
           for (;;) pause();
         }
         const int fd = static_cast<int>(call(SYS_pidfd_open, child, O_NONBLOCK));
         siginfo_t info{};
         const int got = waitid(P_PIDFD, static_cast<id_t>(fd), &info, WEXITED);
         const int why = errno;
         kill(child, SIGKILL);
         return got == -1 ? why : 0;
       }));
  line("a descriptor of another", in_child([] {
         int ends[2];
         if (pipe(ends) != 0) return 9;
         const pid_t child = fork();
         if (child == 0) {
           for (;;) pause();
         }
         close(ends[1]);
         const int fd = static_cast<int>(call(SYS_pidfd_open, child, 0));
         const int taken = static_cast<int>(call(SYS_pidfd_getfd, fd, ends[1], 0));
         kill(child, SIGKILL);
         waitpid(child, nullptr, 0);
         char byte = 'x';
         if (write(taken, &byte, 1) != 1 || read(ends[0], &byte, 1) != 1) return 10;
         return call(SYS_pidfd_getfd, fd, 0, 1) == -1 ? errno : 0;
       }));
  line("a folder of /proc", in_child([] {
         const int fd = open("/proc/self", O_RDONLY | O_DIRECTORY);
         if (call(SYS_pidfd_send_signal, fd, 0, 0, 0) != 0) return 10;
         return call(SYS_pidfd_getfd, fd, 0, 0) == -1 ? errno : 0;
       }));
  line("clone with one", in_child([] {
         int fd = -1;
         constexpr long kPidfd = 0x1000;
         const long child = syscall(SYS_clone, kPidfd | SIGCHLD, 0, &fd, 0, 0);
         if (child == 0) _exit(3);
         siginfo_t info{};
         if (waitid(P_PIDFD, static_cast<id_t>(fd), &info, WEXITED) != 0) return 10;
         return info.si_pid == child && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 ? info.si_status : 0;
       }));
  begin("process_vm_readv");
  char here[8] = "here";
  char there[8] = {};
  iovec from{here, 5};
  iovec to{there, 5};
  value("own memory", process_vm_readv(getpid(), &to, 1, &from, 1, 0));
  line("is", there);
  value("flags", process_vm_readv(getpid(), &to, 1, &from, 1, 1));
  value("nobody", process_vm_readv(999999, &to, 1, &from, 1, 0));
  from.iov_base = reinterpret_cast<void*>(8);
  value("bad address", process_vm_readv(getpid(), &to, 1, &from, 1, 0));
  line("of a child", in_child([] {
         static int word = 1;
         const pid_t child = fork();
         if (child == 0) {
           for (;;) pause();
         }
         int wanted = 77;
         int got = 0;
         iovec own{&wanted, sizeof wanted};
         const iovec other{&word, sizeof word};
         process_vm_writev(child, &own, 1, &other, 1, 0);
         own.iov_base = &got;
         process_vm_readv(child, &own, 1, &other, 1, 0);
         kill(child, SIGKILL);
         return word == 1 ? got : 0;
       }));
}

std::string host() {
  char name[65] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

void own_namespaces() {
  begin("namespaces");
  value("unknown flags", unshare(1));
  line("as nobody", in_child([] {
         if (setuid(1000) != 0) return 99;
         return unshare(CLONE_NEWUTS) == -1 ? errno : 0;
       }));
  const std::string before = host();
  line("own names", in_child([] {
         if (unshare(CLONE_NEWUTS) != 0) return 99;
         if (sethostname("inner", 5) != 0) return 98;
         int status = 0;
         const pid_t child = fork();
         if (child == 0) _exit(host() == "inner" ? 1 : 0);
         waitpid(child, &status, 0);
         return WEXITSTATUS(status) + (host() == "inner" ? 1 : 0);
       }));
  truth("ours stay", host() == before);
  line("clone with names", in_child([] {
         const long child = syscall(SYS_clone, CLONE_NEWUTS | SIGCHLD, 0, 0, 0, 0);
         if (child == 0) _exit(sethostname("x", 1) == 0 && host() == "x" ? 1 : 0);
         int status = 0;
         waitpid(static_cast<pid_t>(child), &status, 0);
         return WEXITSTATUS(status) + (host() == "x" ? 10 : 0);
       }));
  line("own objects", in_child([] {
         constexpr key_t kKey = 0x5e7a22;
         const int outer = shmget(kKey, 4096, IPC_CREAT | 0600);
         if (unshare(CLONE_NEWIPC) != 0) return 99;
         const int got = shmget(kKey, 4096, 0600);
         const int why = errno;
         if (got == -1 && shmctl(outer, IPC_RMID, nullptr) == -1) return why;
         return 0;
       }));
  line("the parent's again", in_child([] {
         constexpr key_t kKey = 0x5e7a22;
         const int again = shmget(kKey, 4096, 0600);
         return again >= 0 && shmctl(again, IPC_RMID, nullptr) == 0 ? 1 : 0;
       }));
  line("entered by pidfd", in_child([] {
         const int fd = static_cast<int>(call(SYS_pidfd_open, getppid(), 0));
         const std::string outer = host();
         if (unshare(CLONE_NEWUTS) != 0 || sethostname("inner", 5) != 0) return 99;
         if (setns(fd, CLONE_NEWUTS) != 0) return 98;
         return host() == outer ? 1 : 0;
       }));
  value("by a file", setns(0, CLONE_NEWUTS));
  value("by nothing", setns(999, CLONE_NEWUTS));
}

void descent() {
  begin("descent");
  line("signal at the parent's death", in_child([] {
         int ends[2];
         if (pipe(ends) != 0) return 9;
         const pid_t middle = fork();
         if (middle == 0) {
           const pid_t child = fork();
           if (child == 0) {
             static int out = ends[1];
             signal(SIGUSR1, [](int) {
               if (write(out, "x", 1) != 1) _exit(2);
               _exit(0);
             });
             prctl(PR_SET_PDEATHSIG, SIGUSR1);
             if (write(ends[1], "r", 1) != 1) _exit(2);
             for (;;) pause();
           }
           char byte = 0;
           if (read(ends[0], &byte, 1) != 1) _exit(2);
           _exit(0);
         }
         waitpid(middle, nullptr, 0);
         char byte = 0;
         return read(ends[0], &byte, 1) == 1 && byte == 'x' ? 1 : 0;
       }));
  line("orphans go to the one who asked", in_child([] {
         prctl(PR_SET_CHILD_SUBREAPER, 1);
         int set = 0;
         prctl(PR_GET_CHILD_SUBREAPER, &set);
         if (fork() == 0) {
           if (fork() == 0) {
             usleep(50'000);
             _exit(8);
           }
           _exit(0);
         }
         int status = 0;
         waitpid(-1, nullptr, 0);
         return waitpid(-1, &status, 0) > 0 ? WEXITSTATUS(status) + set : 0;
       }));
}

void capabilities() {
  begin("capabilities");
  value("keepcaps", prctl(PR_GET_KEEPCAPS));
  value("keepcaps of 2", prctl(PR_SET_KEEPCAPS, 2));
  line("kept over setuid", in_child([] {
         prctl(PR_SET_KEEPCAPS, 1);
         if (setuid(1000) != 0) return 99;
         __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
         __user_cap_data_struct data[2] = {};
         syscall(SYS_capget, &header, data);
         return (data[0].permitted & 1) != 0 && data[0].effective == 0 ? 1 : 0;
       }));
  line("not kept", in_child([] {
         if (setuid(1000) != 0) return 99;
         __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
         __user_cap_data_struct data[2] = {};
         syscall(SYS_capget, &header, data);
         return data[0].permitted == 0 ? 1 : 0;
       }));
  value("secure bits", prctl(PR_GET_SECUREBITS));
  value("unknown secure bits", prctl(PR_SET_SECUREBITS, 1 << 20));
  line("locked bits stay", in_child([] {
         if (prctl(PR_SET_SECUREBITS, 0x3) != 0) return 99;
         return prctl(PR_SET_SECUREBITS, 0) == -1 ? errno : 0;
       }));
  line("no fixup", in_child([] {
         prctl(PR_SET_SECUREBITS, 0x4);
         if (setuid(1000) != 0) return 99;
         __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
         __user_cap_data_struct data[2] = {};
         syscall(SYS_capget, &header, data);
         return (data[0].effective & 1) != 0 ? 1 : 0;
       }));
  line("ambient needs inheritable", in_child([] {
         return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0) == -1 ? errno : 0;
       }));
  line("ambient", in_child([] {
         __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
         __user_cap_data_struct data[2] = {};
         syscall(SYS_capget, &header, data);
         data[0].inheritable |= 1;
         if (syscall(SYS_capset, &header, data) != 0) return 99;
         prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 0, 0, 0);
         const int set = prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0);
         prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
         return set * 10 + prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 0, 0, 0);
       }));
  value("ambient of nothing", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 99, 0, 0));
  begin("prctl more");
  value("timing", prctl(PR_GET_TIMING));
  value("slack", prctl(PR_GET_TIMERSLACK));
  line("slack of ours", in_child([] {
         prctl(PR_SET_TIMERSLACK, 77);
         return prctl(PR_GET_TIMERSLACK);
       }));
  value("huge pages", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
}

}  // namespace

void tasks() {
  processor_time();
  scheduling();
  limits_hold();
  pid_files();
  own_namespaces();
  descent();
  capabilities();
}

}  // namespace calls
