#include <elf.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
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

void settings_of_a_process() {
  begin("/proc/self");
  const auto set = [](const char* path, const char* text) {
    const int fd = open(path, O_RDWR);
    const ssize_t done = fd < 0 ? -1 : write(fd, text, std::strlen(text));
    const int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    return done;
  };
  const auto get = [](const char* path) {
    char text[128] = {};
    const int fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) < 0) return result_of(-1);
    close(fd);
    std::string out(text);
    while (!out.empty() && out.back() == '\n') out.pop_back();
    return out;
  };
  line("its names", in_child([&] {
         value("comm", set("/proc/self/comm", "a-name-that-is-too-long"));
         char name[17] = {};
         prctl(PR_GET_NAME, name);
         line("is its name", name);
         line("is shown", get("/proc/self/comm"));
         value("another's", set(("/proc/" + std::to_string(getppid()) + "/comm").c_str(), "x"));
         return 0;
       }));
  line("its score", in_child([&] {
         const char* path = "/proc/self/oom_score_adj";
         value("score", set(path, "500\n"));
         line("score is shown", get(path));
         value("score above all", set(path, "1001"));
         value("no score", set(path, "x"));
         line("score of a child", in_child([&] { return get(path) == "500" ? 0 : 1; }));
         const int fd = open(path, O_RDWR);
         if (setuid(1000) != 0) return 99;
         value("more as nobody", pwrite(fd, "700", 3, 0));
         value("less as nobody", pwrite(fd, "600", 3, 0));
         value("too little as nobody", pwrite(fd, "-1000", 5, 0));
         return 0;
       }));
  const char* uuid = "/proc/sys/kernel/random/uuid";
  const char* boot = "/proc/sys/kernel/random/boot_id";
  value("length of a uuid", static_cast<long>(get(uuid).size()));
  truth("another each time", get(uuid) != get(uuid));
  value("length of the boot's", static_cast<long>(get(boot).size()));
  truth("always the same", get(boot) == get(boot));
  line("entropy", get("/proc/sys/kernel/random/entropy_avail"));
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

void affinity() {
  begin("affinity");
  cpu_set_t all;
  cpu_set_t none;
  CPU_ZERO(&none);
  value("of a negative", sched_getaffinity(-1, sizeof all, &all));
  value("of nobody", sched_getaffinity(999999, sizeof all, &all));
  ok("own", sched_getaffinity(0, sizeof all, &all));
  value("set a negative's", sched_setaffinity(-1, sizeof all, &all));
  value("set nobody's", sched_setaffinity(999999, sizeof all, &all));
  value("to none", sched_setaffinity(0, sizeof none, &none));
  value("to no memory", call(SYS_sched_setaffinity, 0, 8, 1));
  line("is kept and inherited", in_child([&] {
         cpu_set_t one = none;
         int first = 0;
         while (!CPU_ISSET(first, &all)) ++first;
         CPU_SET(first, &one);
         if (sched_setaffinity(0, sizeof one, &one) != 0) return 99;
         const pid_t child = fork();
         if (child == 0) {
           cpu_set_t now;
           sched_getaffinity(0, sizeof now, &now);
           _exit(CPU_EQUAL(&now, &one) ? 7 : 98);
         }
         int status = 0;
         waitpid(child, &status, 0);
         return WEXITSTATUS(status);
       }));
  line("of another user", in_child([&] {
         if (setuid(1000) != 0) return 99;
         return sched_setaffinity(getppid(), sizeof all, &all) == -1 ? errno : 0;
       }));
}

void limits_hold() {
  begin("limits hold");
  line("file size", in_child([] {
         const rlimit some{100, 100};
         setrlimit(RLIMIT_FSIZE, &some);
         signal(SIGXFSZ, SIG_IGN);
         const std::string bytes(150, 'x');
         const int fd = open("sized", O_CREAT | O_RDWR | O_TRUNC, 0600);
         value("file size: up to the limit", write(fd, bytes.data(), bytes.size()));
         value("file size: at the limit", write(fd, bytes.data(), 1));
         value("file size: across it", pwrite(fd, bytes.data(), 10, 95));
         value("file size: longer", ftruncate(fd, 101));
         value("file size: longer by name", truncate("sized", 200));
         value("file size: shorter", ftruncate(fd, 50));
         value("file size: taken in advance", fallocate(fd, 0, 0, 101));
         value("file size: behind the end",
               fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 101) == 0 ? 0 : -1);
         const int end = open("sized", O_WRONLY | O_APPEND);
         value("file size: appended", write(end, bytes.data(), bytes.size()));
         const int from = open("/proc/self/exe", O_RDONLY);
         lseek(fd, 90, SEEK_SET);
         value("file size: from a file", sendfile(fd, from, nullptr, 50));
         value("file size: and no more", sendfile(fd, from, nullptr, 50));
         return 5;
       }));
  line("file size, with its signal", in_child([] {
         const rlimit some{100, 100};
         setrlimit(RLIMIT_FSIZE, &some);
         const int fd = open("sized", O_RDWR);
         return static_cast<int>(pwrite(fd, "x", 1, 100));
       }));
  unlink("sized");
  line("pending signals", in_child([] {
         const rlimit some{3, 3};
         setrlimit(RLIMIT_SIGPENDING, &some);
         if (setuid(54322) != 0) return 99;
         sigset_t set;
         sigemptyset(&set);
         sigaddset(&set, SIGRTMIN);
         sigprocmask(SIG_BLOCK, &set, nullptr);
         int queued = 0;
         while (queued < 10 && sigqueue(getpid(), SIGRTMIN, sigval{}) == 0) ++queued;
         value("pending signals: one more", sigqueue(getpid(), SIGRTMIN, sigval{}));
         value("pending signals: one of kill's", kill(getpid(), SIGRTMIN));
         return queued;
       }));
  const auto deep = [](rlim_t stack) {
    return in_child([stack] {
      const rlimit some{stack, stack};
      setrlimit(RLIMIT_STACK, &some);
      execl("/proc/self/exe", "guest_calls", "--deep", nullptr);
      return 99;
    });
  };
  line("much stack", deep(32 << 20));
  line("little stack", deep(4 << 20));
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

/// A program whose headers ask for a stack that code may run on.
void stack_to_run_on() {
  begin("stack");
  const auto copy = [](const char* name, Elf64_Word flags) {
    const int from = open("/proc/self/exe", O_RDONLY);
    const int to = open(name, O_CREAT | O_RDWR | O_TRUNC, 0755);
    std::string bytes(1 << 20, 0);
    for (ssize_t got = 0; (got = read(from, bytes.data(), bytes.size())) > 0;)
      write(to, bytes.data(), static_cast<size_t>(got));
    Elf64_Ehdr head{};
    pread(to, &head, sizeof head, 0);
    for (int i = 0; i < head.e_phnum; ++i) {
      const auto at =
          static_cast<off_t>(head.e_phoff + static_cast<size_t>(i) * sizeof(Elf64_Phdr));
      Elf64_Phdr segment{};
      pread(to, &segment, sizeof segment, at);
      if (segment.p_type != PT_GNU_STACK) continue;
      segment.p_flags = flags;
      pwrite(to, &segment, sizeof segment, at);
    }
    close(from);
    close(to);
    line(name, in_child([name] {
           execl(name, name, "--stack", nullptr);
           return 99;
         }));
    unlink(name);
  };
  copy("runs", PF_R | PF_W | PF_X);
  copy("does-not", PF_R | PF_W);
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

int go_deep() {
  for (int page = 0; page < 3072; ++page) {
    volatile char* at = static_cast<char*>(__builtin_alloca(4096));
    *at = 1;
  }
  return 6;
}

int look_at_stack() {
  std::string maps(1 << 16, 0);
  const int fd = open("/proc/self/maps", O_RDONLY);
  const ssize_t got = read(fd, maps.data(), maps.size());
  maps.resize(got < 0 ? 0 : static_cast<size_t>(got));
  const size_t row = maps.rfind('\n', maps.find("[stack]"));
  line("may be used", maps.substr(maps.find(' ', row) + 1, 4));
  return 0;
}

void tasks() {
  processor_time();
  scheduling();
  affinity();
  limits_hold();
  stack_to_run_on();
  settings_of_a_process();
  pid_files();
  own_namespaces();
  descent();
  capabilities();
}

}  // namespace calls
