// namespaces(7): PID and mount namespaces, and the files that stand for them.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "calls.h"

namespace calls {
namespace {

long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  return syscall(number, a, b, c, d, e);
}

pid_t clone_with(unsigned long flags) {
  return static_cast<pid_t>(call(SYS_clone, static_cast<long>(flags | SIGCHLD)));
}

std::string link_of(const std::string& path) {
  char text[128];
  const ssize_t length = readlink(path.c_str(), text, sizeof text);
  return length < 0 ? result_of(-1) : std::string(text, static_cast<size_t>(length));
}

int wait_code(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return 200;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/// As in_child, as process 1 of a PID namespace.
std::string in_init(const std::function<int()>& body, unsigned long more = 0) {
  const pid_t child = clone_with(CLONE_NEWPID | more);
  if (child == 0) _exit(body());
  if (child < 0) return result_of(-1);
  return std::to_string(wait_code(child));
}

void tell(int fd, int value) {
  if (write(fd, &value, sizeof value) != sizeof value) _exit(120);
}
int hear(int fd) {
  int value = -1;
  return read(fd, &value, sizeof value) == sizeof value ? value : -1;
}

void pids() {
  begin("PID namespaces");
  line("as nobody", in_child([] {
         if (setuid(1000) != 0) return 99;
         return clone_with(CLONE_NEWPID) == -1 ? errno : 0;
       }));
  line("its first is 1", in_init([] { return getpid() == 1 && gettid() == 1 ? 3 : 0; }));
  line("its parent is nowhere", in_init([] { return getppid() == 0 ? 3 : 0; }));
  line("its group is nowhere", in_init([] { return getpgrp() == 0 && getsid(0) == 0 ? 3 : 0; }));
  line("a session of its own",
       in_init([] { return setsid() == 1 && getpgrp() == 1 && getsid(0) == 1 ? 3 : 0; }));
  line("the next is 2", in_init([] {
         const pid_t child = fork();
         if (child == 0) _exit(getpid() == 2 && getppid() == 1 ? 5 : 0);
         return child == 2 ? wait_code(child) : 0;
       }));
  line("who sees whom", in_init([] {
         const int outside = kill(2, 0) == -1 && errno == ESRCH ? 1 : 0;
         const int all = kill(-1, 0) == -1 && errno == ESRCH ? 2 : 0;
         return outside + all;
       }));
  line("nested", in_init([] {
         const pid_t child = clone_with(CLONE_NEWPID);
         if (child == 0) _exit(getpid() == 1 && getppid() == 0 ? 5 : 0);
         return child == 2 ? wait_code(child) : 0;
       }));
  line("a sibling of init", in_init([] { return clone_with(CLONE_PARENT) == -1 ? errno : 0; }));
  line("with a thread's flags", in_child([] {
         return call(SYS_clone, CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) == -1
                    ? errno
                    : 0;
       }));

  line("orphans are its init's", in_init([] {
         int ends[2];
         if (pipe(ends) != 0) return 99;
         const pid_t middle = fork();
         if (middle == 0) {
           const pid_t child = fork();
           if (child == 0) {
             while (getppid() == 2) usleep(1000);
             tell(ends[1], getppid());
             _exit(0);
           }
           _exit(0);
         }
         wait_code(middle);
         const int parent = hear(ends[0]);
         return wait(nullptr) == 3 ? parent : 98;
       }));
  {
    int ends[2];
    if (pipe(ends) != 0) return;
    const pid_t init = clone_with(CLONE_NEWPID);
    if (init == 0) {
      const pid_t child = fork();
      if (child == 0)
        for (;;) pause();
      tell(ends[1], child);
      usleep(20'000);
      _exit(7);
    }
    value("what its init has born", hear(ends[0]));
    value("init", wait_code(init));
    close(ends[1]);
    value("nobody has its pipe any more", hear(ends[0]));
    close(ends[0]);
  }
  // The numbers of one process, by who asks.
  {
    int ends[2];
    if (pipe(ends) != 0) return;
    const pid_t init = clone_with(CLONE_NEWPID);
    if (init == 0) {
      const pid_t child = fork();
      if (child == 0) {
        tell(ends[1], getpid());
        for (;;) pause();
      }
      wait_code(child);
      _exit(5);
    }
    value("inside", hear(ends[0]));
    truth("outside it is another", init > 2 && kill(init, 0) == 0);
    const std::string path = "/proc/" + std::to_string(init) + "/status";
    FILE* file = fopen(path.c_str(), "r");
    char text[256];
    std::string numbers;
    while (file != nullptr && fgets(text, sizeof text, file) != nullptr)
      if (std::strncmp(text, "NSpid:", 6) == 0) numbers = text;
    if (file != nullptr) fclose(file);
    truth("NSpid", numbers.ends_with("\t" + std::to_string(init) + "\t1\n"));
    ok("SIGTERM from outside", kill(init, SIGTERM));
    usleep(20'000);
    value("is not for it", waitpid(init, nullptr, WNOHANG));
    ok("SIGKILL is", kill(init, SIGKILL));
    value("init", wait_code(init));
    close(ends[0]);
    close(ends[1]);
  }
  line("SIGKILL of oneself", in_init([] {
         kill(1, SIGKILL);
         return 3;
       }));
  line("SIGTERM with a handler", in_init([] {
         signal(SIGTERM, [](int) { _exit(11); });
         kill(1, SIGTERM);
         return 3;
       }));
  line("who sends from outside is 0", in_child([] {
         int ends[2];
         sigset_t set;
         sigemptyset(&set);
         sigaddset(&set, SIGUSR1);
         sigprocmask(SIG_BLOCK, &set, nullptr);
         if (pipe(ends) != 0) return 99;
         const pid_t init = clone_with(CLONE_NEWPID);
         if (init == 0) {
           tell(ends[1], 1);
           siginfo_t info{};
           sigwaitinfo(&set, &info);
           _exit(info.si_pid == 0 && info.si_code == SI_USER ? 3 : 4);
         }
         hear(ends[0]);
         kill(init, SIGUSR1);
         return wait_code(init);
       }));
  line("who ends is known by its outer number", in_child([] {
         sigset_t set;
         sigemptyset(&set);
         sigaddset(&set, SIGCHLD);
         sigprocmask(SIG_BLOCK, &set, nullptr);
         const pid_t init = clone_with(CLONE_NEWPID);
         if (init == 0) _exit(3);
         siginfo_t info{};
         sigwaitinfo(&set, &info);
         return info.si_pid == init ? wait_code(init) : 4;
       }));
  line("whose socket it is", in_child([] {
         int pair[2];
         if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 99;
         const pid_t init = clone_with(CLONE_NEWPID);
         struct ucred who{};
         socklen_t size = sizeof who;
         if (init == 0) {
           if (getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) _exit(98);
           _exit(who.pid == 0 ? 3 : 4);
         }
         return wait_code(init);
       }));
}

void unsharing() {
  begin("unshare of PIDs");
  line("we stay", in_child([] {
         const pid_t before = getpid();
         if (unshare(CLONE_NEWPID) != 0) return 99;
         if (getpid() != before) return 98;
         const pid_t first = fork();
         if (first == 0) {
           pause();
           _exit(0);
         }
         const pid_t second = fork();
         if (second == 0) _exit(getpid() == 2 && getppid() == 0 ? 5 : 0);
         const int code = wait_code(second);
         kill(first, SIGKILL);
         return wait_code(first) == 128 + SIGKILL ? code : 97;
       }));
  line("without an init nobody is born", in_child([] {
         if (unshare(CLONE_NEWPID) != 0) return 99;
         const pid_t first = fork();
         if (first == 0) _exit(0);
         wait_code(first);
         return fork() == -1 ? errno : 0;
       }));
  line("twice", in_child([] {
         if (unshare(CLONE_NEWPID) != 0) return 99;
         return unshare(CLONE_NEWPID) == -1 ? errno : 0;
       }));
  line("no threads behind it", in_child([] {
         if (unshare(CLONE_NEWPID) != 0) return 99;
         pthread_t thread;
         return pthread_create(&thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr);
       }));
  line("eleven hundred after each other", in_child([] {
         int made = 0;
         for (; made < 1100; ++made) {
           const pid_t child = clone_with(CLONE_NEWPID);
           if (child == 0) _exit(3);
           if (child < 0 || wait_code(child) != 3) break;
         }
         return made == 1100 ? 3 : 4;
       }));
  line("thirty-two deep", in_child([] {
         int deepest = 0;
         const std::function<int(int)> descend = [&](int depth) -> int {
           const pid_t child = clone_with(CLONE_NEWPID);
           if (child == -1) return errno == ENOSPC ? depth : 99;
           if (child == 0) _exit(descend(depth + 1));
           return wait_code(child);
         };
         deepest = descend(0);
         return deepest > 20 && deepest <= 32 ? 1 : deepest;
       }));
}

void links() {
  begin("/proc/self/ns");
  const std::string own = "/proc/self/ns/";
  for (const char* name : {"pid", "mnt", "uts", "ipc", "user", "net", "cgroup"}) {
    const std::string text = link_of(own + name);
    truth(std::string(name) + " has a number",
          text.starts_with(std::string(name) + ":[") && text.ends_with("]"));
  }
  truth("children are born in ours", link_of(own + "pid") == link_of(own + "pid_for_children"));
  const std::string outer = link_of(own + "pid");
  line("of another", in_init([&] {
         // The procfs is the outer one's, which knows us by another number.
         return link_of(own + "pid") == outer ? 0 : 3;
       }));
  line("nobody born yet", in_child([&] {
         if (unshare(CLONE_NEWPID) != 0) return 99;
         const bool none = link_of(own + "pid_for_children") == "ENOENT";
         return none && link_of(own + "pid") == outer ? 3 : 0;
       }));
  struct stat by_path{};
  struct stat by_fd{};
  const int fd = open((own + "uts").c_str(), O_RDONLY | O_CLOEXEC);
  ok("open", fd);
  if (stat((own + "uts").c_str(), &by_path) == 0 && fstat(fd, &by_fd) == 0)
    truth("one file", by_path.st_ino == by_fd.st_ino && by_path.st_dev == by_fd.st_dev);
  truth("its number", link_of(own + "uts") == "uts:[" + std::to_string(by_fd.st_ino) + "]");
  char byte;
  value("read", read(fd, &byte, 1));
  value("another kind", setns(fd, CLONE_NEWPID));
  close(fd);
  line("names by a file", in_child([&] {
         const int names = open((own + "uts").c_str(), O_RDONLY);
         char before[65];
         char after[65];
         gethostname(before, sizeof before);
         if (unshare(CLONE_NEWUTS) != 0 || sethostname("inner", 5) != 0) return 99;
         if (setns(names, CLONE_NEWUTS) != 0) return 98;
         gethostname(after, sizeof after);
         return std::strcmp(before, after) == 0 ? 3 : 4;
       }));
  line("into a child's", in_child([&] {
         const pid_t init = clone_with(CLONE_NEWPID);
         if (init == 0)
           for (;;) pause();
         const int pids = open(("/proc/" + std::to_string(init) + "/ns/pid").c_str(), O_RDONLY);
         if (setns(pids, 0) != 0) return 99;
         const pid_t second = fork();
         if (second == 0) _exit(getpid() == 2 && getppid() == 0 && kill(1, 0) == 0 ? 5 : 0);
         const int code = wait_code(second);
         kill(init, SIGKILL);
         wait_code(init);
         return code;
       }));
  line("by pidfd", in_child([&] {
         const pid_t init = clone_with(CLONE_NEWPID);
         if (init == 0)
           for (;;) pause();
         const int pidfd = static_cast<int>(call(SYS_pidfd_open, init));
         if (setns(pidfd, CLONE_NEWPID) != 0) return 99;
         const pid_t second = fork();
         if (second == 0) _exit(getpid() == 2 ? 5 : 0);
         const int code = wait_code(second);
         kill(init, SIGKILL);
         wait_code(init);
         return code;
       }));
  line("not up", in_child([&] {
         const int pids = open((own + "pid").c_str(), O_RDONLY);
         const pid_t init = clone_with(CLONE_NEWPID);
         if (init == 0) _exit(setns(pids, 0) == -1 ? errno : 0);
         return wait_code(init);
       }));
  line("as nobody", in_child([&] {
         const int names = open((own + "uts").c_str(), O_RDONLY);
         if (setuid(1000) != 0) return 99;
         return setns(names, 0) == -1 ? errno : 0;
       }));
}

int processes_in(const char* folder) {
  DIR* dir = opendir(folder);
  int count = 0;
  while (const dirent* entry = dir == nullptr ? nullptr : readdir(dir))
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') ++count;
  if (dir != nullptr) closedir(dir);
  return count;
}

void mounts() {
  begin("mount namespaces");
  mkdir("m", 0755);
  mkdir("p", 0755);
  line("as nobody", in_child([] {
         if (setuid(1000) != 0) return 99;
         return unshare(CLONE_NEWNS) == -1 ? errno : 0;
       }));
  value("with a shared root", call(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD));
  const auto own_mounts = [] {
    return unshare(CLONE_NEWNS) == 0 &&
           mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  };
  const auto there = [](const char* path) { return access(path, F_OK) == 0; };
  line("mounted for oneself", in_child([&] {
         if (!own_mounts()) return 99;
         if (mount("x", "m", "tmpfs", 0, nullptr) != 0) return errno;
         close(open("m/inner", O_CREAT | O_WRONLY, 0600));
         int status = 0;
         const pid_t child = fork();
         if (child == 0) _exit(there("m/inner") ? 1 : 0);
         waitpid(child, &status, 0);
         return WEXITSTATUS(status) + (there("m/inner") ? 10 : 0);
       }));
  truth("not for us", !there("m/inner"));
  line("files are the same", in_child([&] {
         if (!own_mounts()) return 99;
         close(open("made-inside", O_CREAT | O_WRONLY, 0600));
         return there("made-inside") ? 3 : 4;
       }));
  truth("made there", there("made-inside"));
  line("and gone here", in_child([&] {
         int ends[2];
         if (pipe(ends) != 0) return 98;
         const pid_t child = fork();
         if (child == 0) {
           if (!own_mounts()) _exit(99);
           const bool before = there("made-inside");
           tell(ends[1], 1);
           usleep(50'000);
           _exit(before && !there("made-inside") ? 3 : 4);
         }
         hear(ends[0]);
         unlink("made-inside");
         return wait_code(child);
       }));
  const std::string outer = link_of("/proc/self/ns/mnt");
  line("the place stays", in_child([&] {
         char before[4096];
         char after[4096];
         if (getcwd(before, sizeof before) == nullptr || !own_mounts()) return 99;
         if (link_of("/proc/self/ns/mnt") == outer) return 98;
         return getcwd(after, sizeof after) != nullptr && std::strcmp(before, after) == 0 ? 3 : 4;
       }));
  line("and back", in_child([&] {
         const int back = open("/proc/self/ns/mnt", O_RDONLY);
         char place[4096];
         if (getcwd(place, sizeof place) == nullptr) return 99;
         if (!own_mounts() || mount("x", "m", "tmpfs", 0, nullptr) != 0) return 98;
         close(open("m/inner", O_CREAT | O_WRONLY, 0600));
         if (setns(back, CLONE_NEWNS) != 0) return 97;
         char now[4096];
         if (getcwd(now, sizeof now) == nullptr || std::strcmp(now, "/") != 0) return 96;
         if (chdir(place) != 0) return 95;
         return there("m/inner") ? 4 : 3;
       }));
  line("unmounted for oneself", in_child([&] {
         if (!own_mounts() || mount("x", "m", "tmpfs", 0, nullptr) != 0) return 99;
         const pid_t child = fork();
         if (child == 0) {
           if (!own_mounts()) _exit(98);
           _exit(umount("m") == 0 ? 1 : errno);
         }
         const int code = wait_code(child);
         FILE* file = fopen("/proc/self/mounts", "r");
         char text[1024];
         int seen = 0;
         while (file != nullptr && fgets(text, sizeof text, file) != nullptr)
           if (std::strstr(text, "/m tmpfs ") != nullptr) seen = 10;
         if (file != nullptr) fclose(file);
         return code + seen;
       }));
  line("a procfs of one's own",
       in_init(
           [&] {
             if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 99;
             if (mount("proc", "p", "proc", 0, nullptr) != 0) return errno;
             const pid_t child = fork();
             if (child == 0) {
               const bool own = link_of("p/self") == "2";
               _exit(own && processes_in("p") == 2 ? 1 : 0);
             }
             const int code = wait_code(child);
             return code + (link_of("p/self") == "1" ? 10 : 0) + (processes_in("p") == 1 ? 100 : 0);
           },
           CLONE_NEWNS));
  rmdir("m");
  rmdir("p");
}

}  // namespace

void namespaces() {
  pids();
  unsharing();
  links();
  mounts();
}

}  // namespace calls
