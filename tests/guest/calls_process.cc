#include <fcntl.h>
#include <grp.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <ctime>

#include "calls.h"

namespace calls {
namespace {

void* const kBad = reinterpret_cast<void*>(8);

void forking() {
  begin("fork");
  line("exit code", in_child([] { return 42; }));
  line("killed", in_child([] { return raise(SIGKILL); }));
  line("aborted", in_child([] {
         signal(SIGABRT, SIG_DFL);
         return raise(SIGABRT);
       }));
  const pid_t me = getpid();
  line("parent", in_child([me] { return getppid() == me ? 1 : 0; }));
  begin("vfork");
  volatile int seen = 0;
  const pid_t child = vfork();
  if (child == 0) {
    seen = 7;
    _exit(3);
  }
  int status = 0;
  waitpid(child, &status, 0);
  value("memory is shared", seen);
  value("status", WEXITSTATUS(status));
  begin("clone");
  value("thread without sighand", syscall(SYS_clone, CLONE_THREAD, 0, 0, 0, 0));
  value("sighand without vm", syscall(SYS_clone, CLONE_SIGHAND, 0, 0, 0, 0));
  clone_args args{};
  value("clone3 too small", syscall(SYS_clone3, &args, 8));
  args.exit_signal = SIGCHLD;
  const long made = syscall(SYS_clone3, &args, sizeof args);
  if (made == 0) _exit(5);
  waitpid(static_cast<pid_t>(made), &status, 0);
  value("clone3", WEXITSTATUS(status));
  args.flags = uint64_t{1} << 32;  // CLONE_CLEAR_SIGHAND
  signal(SIGUSR1, [](int) {});
  signal(SIGUSR2, SIG_IGN);
  const long cleared = syscall(SYS_clone3, &args, sizeof args);
  if (cleared == 0) {
    struct sigaction caught{};
    struct sigaction ignored{};
    sigaction(SIGUSR1, nullptr, &caught);
    sigaction(SIGUSR2, nullptr, &ignored);
    _exit(caught.sa_handler == SIG_DFL && ignored.sa_handler == SIG_IGN ? 5 : 6);
  }
  waitpid(static_cast<pid_t>(cleared), &status, 0);
  value("clone3 without handlers", WEXITSTATUS(status));
  args.flags |= CLONE_SIGHAND | CLONE_VM;
  value("clone3 with handlers and without", syscall(SYS_clone3, &args, sizeof args));
  signal(SIGUSR1, SIG_DFL);
  signal(SIGUSR2, SIG_DFL);
  args.flags = 0xff;
  value("clone3 signal in flags", syscall(SYS_clone3, &args, sizeof args));
}

void waiting() {
  begin("wait4");
  value("no children", waitpid(-1, nullptr, 0));
  value("bad options", waitpid(-1, nullptr, 0x7000));
  value("not ours", waitpid(1, nullptr, WNOHANG));
  int ends[2];
  ok("pipe", pipe(ends));
  const pid_t child = fork();
  if (child == 0) {
    char byte = 0;
    close(ends[1]);
    static_cast<void>(!read(ends[0], &byte, 1));
    _exit(9);
  }
  value("still runs", waitpid(child, nullptr, WNOHANG));
  int status = 0;
  kill(child, SIGSTOP);
  truth("stopped", waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
  value("by", WSTOPSIG(status));
  value("reported once", waitpid(child, &status, WUNTRACED | WNOHANG));
  kill(child, SIGCONT);
  truth("continued", waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
  close(ends[1]);
  siginfo_t info{};
  value("waitid keeps", waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT));
  truth("is it", info.si_pid == child && info.si_code == CLD_EXITED);
  value("status", info.si_status);
  truth("taken", waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 9);
  value("and gone", waitpid(child, &status, 0));
  value("waitid without what", waitid(P_ALL, 0, &info, WNOHANG));
  close(ends[0]);
}

void executing() {
  begin("execve");
  char* none[] = {nullptr};
  value("missing", execv("none", none));
  value("directory", execv("/", none));
  value("bad path", execv(static_cast<const char*>(kBad), none));
  close(open("plain", O_CREAT | O_WRONLY, 0644));
  value("not executable", execv("plain", none));
  const int fd = open("junk", O_CREAT | O_WRONLY, 0755);
  ok("write", write(fd, "junk that is no program", 23));
  close(fd);
  value("no program", execv("junk", none));
  value("below a file", execv("junk/x", none));
  const int script = open("script", O_CREAT | O_WRONLY, 0755);
  ok("write", write(script, "#!/no/such/interpreter\n", 23));
  close(script);
  value("missing interpreter", execv("script", none));
  const int self = open("self", O_CREAT | O_WRONLY, 0755);
  ok("write", write(self, "#!self\n", 7));
  close(self);
  value("a script of itself", execv("self", none));
  begin("close on exec");
  line("ELF without segments", in_child([] {
         unsigned char header[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
         header[16] = 2;
         header[18] = 62;
         const int elf = open("elf", O_CREAT | O_WRONLY, 0755);
         static_cast<void>(!write(elf, header, sizeof header));
         close(elf);
         char* nothing[] = {nullptr};
         execv("elf", nothing);
         return errno == ENOEXEC ? 1 : 0;
       }));
}

/// This program once more, in a file that `fd` writes to.
void copy_self(int fd) {
  const int self = open("/proc/self/exe", O_RDONLY);
  char block[65536];
  ssize_t got = 0;
  while ((got = read(self, block, sizeof block)) > 0)
    if (write(fd, block, static_cast<size_t>(got)) != got) break;
  close(self);
}

void busy_text() {
  begin("ETXTBSY");
  char* words[] = {const_cast<char*>("busy"), const_cast<char*>("--stay"), nullptr};
  const int writer = open("busy", O_CREAT | O_RDWR, 0755);
  copy_self(writer);
  value("run while written", execv("busy", words));
  value("by its descriptor", syscall(SYS_execveat, writer, "", words, environ, AT_EMPTY_PATH));
  close(writer);
  const int script = open("busy-script", O_CREAT | O_WRONLY, 0755);
  ok("script", write(script, "#!busy\n", 7));
  value("a script that is written", execv("busy-script", words));
  close(script);
  int ends[2];
  value("pipe", pipe(ends));
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], 1);
    execv("busy", words);
    _exit(1);
  }
  close(ends[1]);
  char byte = 0;
  value("it runs", read(ends[0], &byte, 1));
  value("write to it", open("busy", O_WRONLY));
  value("both ways", open("busy", O_RDWR));
  value("cut while read", open("busy", O_RDONLY | O_TRUNC));
  value("truncate", truncate("busy", 0));
  ok("read", close(open("busy", O_RDONLY)));
  value("another in its place", symlink("busy", "busy-link"));
  value("by a link", open("busy-link", O_WRONLY));
  char* leave[] = {const_cast<char*>("busy"), const_cast<char*>("--leave"), nullptr};
  line("run once more", in_child([&] {
         execv("busy", leave);
         return 1;
       }));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  ok("written when it has ended", close(open("busy", O_WRONLY)));
  close(ends[0]);
}

void from_memory() {
  begin("execveat of memory");
  char* words[] = {const_cast<char*>("name"), const_cast<char*>("--where"), nullptr};
  const int memory = memfd_create("program", 0);
  copy_self(memory);
  line("runs", in_child([&] {
         syscall(SYS_execveat, memory, "", words, environ, AT_EMPTY_PATH);
         return errno;
       }));
  line("by its link", in_child([&] {
         const std::string path = "/proc/self/fd/" + std::to_string(memory);
         execv(path.c_str(), words);
         return errno;
       }));
  ok("fchmod", fchmod(memory, 0644));
  value("without leave", syscall(SYS_execveat, memory, "", words, environ, AT_EMPTY_PATH));
  close(memory);
  const int pipes = eventfd(0, 0);
  value("no program", syscall(SYS_execveat, pipes, "", words, environ, AT_EMPTY_PATH));
  close(pipes);
}

void groups() {
  begin("setpgid");
  value("negative", setpgid(0, -1));
  value("nobody", setpgid(999999, 0));
  line("own group", in_child([] { return setpgid(0, 0) == 0 && getpgrp() == getpid() ? 1 : 0; }));
  line("group of nobody",
       in_child([] { return setpgid(0, 999999) == -1 && errno == EPERM ? 1 : 0; }));
  begin("setsid");
  line("leads", in_child([] { return setsid() == getpid() && getsid(0) == getpid() ? 1 : 0; }));
  line("twice", in_child([] {
         setsid();
         return setsid() == -1 && errno == EPERM ? 1 : 0;
       }));
  line("leader keeps its group", in_child([] {
         setsid();
         return setpgid(0, 0) == -1 && errno == EPERM ? 1 : 0;
       }));
  value("getpgid of nobody", getpgid(999999));
  value("getsid of nobody", getsid(999999));
}

void identity() {
  begin("ids");
  value("uid", getuid());
  value("euid", geteuid());
  value("gid", getgid());
  value("egid", getegid());
  line("setuid drops for good", in_child([] {
         if (setuid(1000) != 0) return 99;
         return setuid(0) == -1 && errno == EPERM && getuid() == 1000 ? 1 : 0;
       }));
  line("seteuid comes back", in_child([] {
         if (seteuid(1000) != 0) return 99;
         return seteuid(0) == 0 && geteuid() == 0 ? 1 : 0;
       }));
  line("setresuid", in_child([] {
         if (setresuid(1, 2, 3) != 0) return 99;
         uid_t r = 0, e = 0, s = 0;
         getresuid(&r, &e, &s);
         return r == 1 && e == 2 && s == 3 ? (setresuid(3, 1, 2) == 0 ? 1 : 2) : 0;
       }));
  line("setresgid", in_child([] {
         gid_t r = 0, e = 0, s = 0;
         if (setresgid(4, 5, 6) != 0) return 99;
         getresgid(&r, &e, &s);
         return r == 4 && e == 5 && s == 6 ? 1 : 0;
       }));
  line("setgroups", in_child([] {
         const gid_t wanted[] = {7, 5};
         gid_t have[4] = {};
         if (setgroups(2, wanted) != 0) return 99;
         return getgroups(4, have) == 2 && have[0] == 5 && getgroups(1, have) == -1 ? 1 : 0;
       }));
  line("setgroups of nobody", in_child([] {
         if (setuid(1000) != 0) return 99;
         return setgroups(0, nullptr) == -1 && errno == EPERM ? 1 : 0;
       }));
  line("kill root as nobody", in_child([] {
         if (setuid(1000) != 0) return 99;
         return kill(getppid(), 0) == -1 && errno == EPERM ? 1 : 0;
       }));
  begin("prctl");
  char name[16] = {};
  value("set name", prctl(PR_SET_NAME, "a-name-that-is-too-long"));
  value("get name", prctl(PR_GET_NAME, name));
  line("is", name);
  value("unknown", prctl(9999));
  value("dumpable", prctl(PR_SET_DUMPABLE, 7));
  value("no new privileges with junk", prctl(PR_SET_NO_NEW_PRIVS, 1, 1, 0, 0));
  value("bounding set", prctl(PR_CAPBSET_READ, 99));
}

std::atomic<int> word{0};
std::atomic<int> woken{0};
long futex(int op, int number, const timespec* timeout = nullptr, int more = 0) {
  return syscall(SYS_futex, &word, op, number, timeout, nullptr, more);
}
void* sleeper(void*) {
  while (word.load() == 0) futex(FUTEX_WAIT_PRIVATE, 0);
  ++woken;
  return nullptr;
}

void threads() {
  begin("futex");
  const timespec soon{0, 20'000'000};
  value("other value", futex(FUTEX_WAIT_PRIVATE, 5));
  value("timeout", futex(FUTEX_WAIT_PRIVATE, 0, &soon));
  value("nobody to wake", futex(FUTEX_WAKE_PRIVATE, 1));
  value("odd address",
        syscall(SYS_futex, reinterpret_cast<char*>(&word) + 1, FUTEX_WAIT, 0, &soon, nullptr, 0));
  value("bad address", syscall(SYS_futex, kBad, FUTEX_WAIT, 0, &soon, nullptr, 0));
  value("no bits", futex(FUTEX_WAIT_BITSET_PRIVATE, 0, &soon, 0));
  value("unknown", futex(99, 0));
  const timespec wrong{0, 2'000'000'000};
  value("bad time", futex(FUTEX_WAIT_PRIVATE, 0, &wrong));
  pthread_t made[8];
  for (pthread_t& thread : made) pthread_create(&thread, nullptr, sleeper, nullptr);
  while (futex(FUTEX_WAKE_PRIVATE, 0) < 0) sched_yield();
  const timespec doze{0, 30'000'000};
  nanosleep(&doze, nullptr);
  word = 1;
  truth("all wake", futex(FUTEX_WAKE_PRIVATE, 100) >= 0);
  for (pthread_t thread : made) pthread_join(thread, nullptr);
  value("woken", woken);
  word = 0;
  // Between processes, by a shared page.
  auto* shared = static_cast<std::atomic<int>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  line("across processes", in_child([&] {
         const pid_t child = fork();
         if (child == 0) {
           const timespec nap{0, 20'000'000};
           nanosleep(&nap, nullptr);
           *shared = 1;
           syscall(SYS_futex, shared, FUTEX_WAKE, 1, nullptr, nullptr, 0);
           _exit(0);
         }
         while (*shared == 0) syscall(SYS_futex, shared, FUTEX_WAIT, 0, nullptr, nullptr, 0);
         waitpid(child, nullptr, 0);
         return 7;
       }));
  begin("threads");
  truth("tid of the main thread", syscall(SYS_gettid) == getpid());
  line("exec ends the others", in_child([] {
         pthread_t thread;
         pthread_create(
             &thread, nullptr,
             [](void*) -> void* {
               for (;;) pause();
             },
             nullptr);
         char* arguments[] = {const_cast<char*>("guest_calls"), nullptr};
         execv("/proc/self/exe", arguments);
         return 99;
       }));
  line("exit_group ends all", in_child([] {
         pthread_t thread;
         pthread_create(&thread, nullptr, [](void*) -> void* { _exit(4); }, nullptr);
         for (;;) pause();
         return 0;
       }));
  line("main thread leaves first", in_child([] {
         pthread_t thread;
         pthread_create(
             &thread, nullptr,
             [](void*) -> void* {
               const timespec nap{0, 20'000'000};
               nanosleep(&nap, nullptr);
               _exit(6);
             },
             nullptr);
         syscall(SYS_exit, 0);
         return 0;
       }));
  begin("robust list");
  void* head = nullptr;
  size_t length = 0;
  value("get", syscall(SYS_get_robust_list, 0, &head, &length));
  value("length", static_cast<long>(length));
  value("set with a bad length", syscall(SYS_set_robust_list, head, 7));
}

void limits() {
  begin("rlimit");
  rlimit limit{};
  value("get", getrlimit(RLIMIT_NOFILE, &limit));
  value("unknown", syscall(SYS_getrlimit, 99, &limit));
  line("soft above hard", in_child([] {
         rlimit wrong{10, 5};
         return setrlimit(RLIMIT_NOFILE, &wrong) == -1 && errno == EINVAL ? 1 : 0;
       }));
  line("descriptors run out", in_child([] {
         rlimit few{10, 10};
         setrlimit(RLIMIT_NOFILE, &few);
         int last = 0;
         while (last < 100 && dup(0) >= 0) ++last;
         return errno == EMFILE && last < 10 ? 1 : 0;
       }));
  line("hard comes not back", in_child([] {
         rlimit few{10, 10};
         setrlimit(RLIMIT_NOFILE, &few);
         if (setuid(1000) != 0) return 99;
         few = {20, 20};
         return setrlimit(RLIMIT_NOFILE, &few) == -1 && errno == EPERM ? 1 : 0;
       }));
  begin("system");
  utsname name{};
  value("uname", uname(&name));
  line("system", name.sysname);
  line("machine", name.machine);
  value("uname bad", uname(static_cast<utsname*>(kBad)));
  struct sysinfo info{};
  value("sysinfo", sysinfo(&info));
  truth("has memory", info.totalram > 0);
  cpu_set_t set;
  truth("affinity", sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0);
  value("affinity short", syscall(SYS_sched_getaffinity, 0, 1, &set));
  CPU_ZERO(&set);
  value("affinity to nothing", sched_setaffinity(0, sizeof set, &set));
  value("yield", sched_yield());
  rusage usage{};
  value("getrusage", getrusage(RUSAGE_SELF, &usage));
  value("getrusage of nobody", syscall(SYS_getrusage, 77, &usage));
  value("unknown call", syscall(999));
}

}  // namespace

void processes() {
  forking();
  waiting();
  executing();
  busy_text();
  from_memory();
  groups();
  identity();
  threads();
  limits();
}

}  // namespace calls
