#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <cstring>
#include <ctime>
#include <string>

#include "calls.h"

// Calls that the C library makes by others, or hides behind its own checks: by number.
namespace calls {
namespace {

const void* const kBad = reinterpret_cast<const void*>(8);
constexpr uid_t kNobody = 1000;

template <class... Arguments>
long call(long number, Arguments... arguments) {
  return syscall(number, arguments...);
}
std::string owner_of(const char* path) {
  struct stat file{};
  if (lstat(path, &file) != 0) return result_of(-1);
  return std::to_string(file.st_uid) + " " + std::to_string(file.st_gid);
}
std::string mode_of(const char* path) {
  struct stat file{};
  if (stat(path, &file) != 0) return result_of(-1);
  return std::to_string(file.st_mode & 07777);
}
long opened(const char* path, int flags) { return open(path, flags, 0644); }

void names() {
  const long folder = (mkdir("numbers", 0755), opened("numbers", O_RDONLY | O_DIRECTORY));
  const long file = opened("numbers/file", O_RDWR | O_CREAT);
  write(static_cast<int>(file), "1234567890", 10);
  symlink("file", "numbers/link");
  symlink("nothing", "numbers/dangling");

  begin("open");
  value("missing", call(SYS_open, "numbers/none", O_RDONLY, 0));
  value("exclusively", call(SYS_open, "numbers/file", O_RDWR | O_CREAT | O_EXCL, 0600));
  value("as a folder", call(SYS_open, "numbers/file", O_RDONLY | O_DIRECTORY, 0));
  value("a folder to write", call(SYS_open, "numbers", O_WRONLY, 0));
  value("a link itself", call(SYS_open, "numbers/link", O_RDONLY | O_NOFOLLOW, 0));
  value("below a file", call(SYS_open, "numbers/file/none", O_RDONLY, 0));
  value("bad path", call(SYS_open, kBad, O_RDONLY, 0));
  ok("a file", call(SYS_open, "numbers/file", O_RDWR, 0));

  begin("creat");
  const long made = ok("new", call(SYS_creat, "numbers/new", 0640));
  line("mode", mode_of("numbers/new"));
  char byte = 0;
  value("cannot be read", read(static_cast<int>(made), &byte, 1));
  value("in no folder", call(SYS_creat, "none/new", 0640));
  value("over a folder", call(SYS_creat, "numbers", 0640));
  value("bad path", call(SYS_creat, kBad, 0640));
  write(static_cast<int>(made), "abc", 3);
  ok("again", call(SYS_creat, "numbers/new", 0600));
  value("is empty", lseek(static_cast<int>(made), 0, SEEK_END));

  begin("fstat");
  struct stat seen{};
  value("a file", call(SYS_fstat, file, &seen));
  value("size", seen.st_size);
  value("folder", (call(SYS_fstat, folder, &seen), S_ISDIR(seen.st_mode) ? 1 : 0));
  value("no descriptor", call(SYS_fstat, -1L, &seen));
  value("to a bad place", call(SYS_fstat, file, kBad));
  int ends[2];
  pipe(ends);
  value("pipe",
        (call(SYS_fstat, static_cast<long>(ends[0]), &seen), S_ISFIFO(seen.st_mode) ? 1 : 0));

  begin("mkdirat");
  value("new", call(SYS_mkdirat, folder, "below", 0750));
  line("mode", mode_of("numbers/below"));
  value("again", call(SYS_mkdirat, folder, "below", 0750));
  value("in no folder", call(SYS_mkdirat, folder, "none/below", 0750));
  value("from a file", call(SYS_mkdirat, file, "below", 0750));
  value("from nowhere", call(SYS_mkdirat, -1L, "below", 0750));
  value("bad path", call(SYS_mkdirat, folder, kBad, 0750));

  begin("symlinkat");
  value("new", call(SYS_symlinkat, "target", folder, "made"));
  value("again", call(SYS_symlinkat, "target", folder, "made"));
  value("to nothing", call(SYS_symlinkat, "", folder, "empty"));
  value("in no folder", call(SYS_symlinkat, "target", folder, "none/made"));
  value("from nowhere", call(SYS_symlinkat, "target", -1L, "made"));
  value("bad target", call(SYS_symlinkat, kBad, folder, "bad"));

  begin("readlinkat");
  char text[64] = {};
  value("a link", call(SYS_readlinkat, folder, "made", text, sizeof text));
  line("is", text);
  value("cut", call(SYS_readlinkat, folder, "made", text, 3L));
  value("no room", call(SYS_readlinkat, folder, "made", text, 0L));
  value("no link", call(SYS_readlinkat, folder, "file", text, sizeof text));
  value("missing", call(SYS_readlinkat, folder, "none", text, sizeof text));
  value("from nowhere", call(SYS_readlinkat, -1L, "made", text, sizeof text));
  const long itself = opened("numbers/made", O_PATH | O_NOFOLLOW);
  value("by its descriptor", call(SYS_readlinkat, itself, "", text, sizeof text));

  begin("unlinkat");
  value("folder as a file", call(SYS_unlinkat, folder, "below", 0));
  value("file as a folder", call(SYS_unlinkat, folder, "new", AT_REMOVEDIR));
  value("unknown flag", call(SYS_unlinkat, folder, "new", 1));
  value("folder", call(SYS_unlinkat, folder, "below", AT_REMOVEDIR));
  value("file", call(SYS_unlinkat, folder, "new", 0));
  value("missing", call(SYS_unlinkat, folder, "new", 0));
  value("from nowhere", call(SYS_unlinkat, -1L, "made", 0));

  begin("fchmodat");
  value("file", call(SYS_fchmodat, folder, "file", 0604));
  line("mode", mode_of("numbers/file"));
  value("by its link", call(SYS_fchmodat, folder, "link", 0640));
  line("mode", mode_of("numbers/file"));
  value("missing", call(SYS_fchmodat, folder, "none", 0640));
  value("by a dangling link", call(SYS_fchmodat, folder, "dangling", 0640));
  value("from nowhere", call(SYS_fchmodat, -1L, "file", 0640));
  line("as nobody", in_child([&] {
         if (setuid(kNobody) != 0) return 99;
         return call(SYS_fchmodat, folder, "file", 0666) == -1 ? errno : 0;
       }));

  begin("faccessat2");
  value("read and write", call(SYS_faccessat2, folder, "file", R_OK | W_OK, 0));
  value("missing", call(SYS_faccessat2, folder, "none", F_OK, 0));
  value("dangling link", call(SYS_faccessat2, folder, "dangling", F_OK, 0));
  value("link itself", call(SYS_faccessat2, folder, "dangling", F_OK, AT_SYMLINK_NOFOLLOW));
  value("by descriptor", call(SYS_faccessat2, file, "", R_OK, AT_EMPTY_PATH));
  value("unknown flag", call(SYS_faccessat2, folder, "file", R_OK, 1));
  value("unknown mode", call(SYS_faccessat2, folder, "file", 8, 0));
  line("by effective ids", in_child([&] {
         if (chmod("numbers/file", 0600) != 0 || setresuid(kNobody, 0, 0) != 0) return 99;
         const bool real = call(SYS_faccessat2, folder, "file", W_OK, 0) == 0;
         const bool effective = call(SYS_faccessat2, folder, "file", W_OK, AT_EACCESS) == 0;
         return (real ? 1 : 0) + (effective ? 2 : 0);
       }));

  begin("lchown");
  value("link", call(SYS_lchown, "numbers/link", 7, 8));
  line("its owner", owner_of("numbers/link"));
  line("the file's", owner_of("numbers/file"));
  value("missing", call(SYS_lchown, "numbers/none", 7, 8));
  value("bad path", call(SYS_lchown, kBad, 7, 8));
  line("as nobody", in_child([] {
         if (setuid(kNobody) != 0) return 99;
         return call(SYS_lchown, "numbers/link", 1, 1) == -1 ? errno : 0;
       }));

  begin("fchown");
  value("file", call(SYS_fchown, file, 5, 6));
  line("owner", owner_of("numbers/file"));
  value("neither", call(SYS_fchown, file, -1, -1));
  line("owner", owner_of("numbers/file"));
  value("no descriptor", call(SYS_fchown, -1L, 5, 6));
  line("as nobody", in_child([&] {
         if (setuid(kNobody) != 0) return 99;
         return call(SYS_fchown, file, 1, 1) == -1 ? errno : 0;
       }));

  begin("fchownat");
  value("by its link", call(SYS_fchownat, folder, "link", 3, -1, 0));
  line("the file's owner", owner_of("numbers/file"));
  value("link itself", call(SYS_fchownat, folder, "link", 9, 9, AT_SYMLINK_NOFOLLOW));
  line("its owner", owner_of("numbers/link"));
  value("by descriptor", call(SYS_fchownat, file, "", 0, 0, AT_EMPTY_PATH));
  value("empty path", call(SYS_fchownat, folder, "", 0, 0, 0));
  value("unknown flag", call(SYS_fchownat, folder, "file", 0, 0, 1));
  value("from nowhere", call(SYS_fchownat, -1L, "file", 0, 0, 0));

  begin("lgetxattr");
  value("missing file", call(SYS_lgetxattr, "numbers/none", "user.one", text, sizeof text));
  value("missing attribute", call(SYS_lgetxattr, "numbers/file", "user.one", text, sizeof text));
  value("set", setxattr("numbers/file", "user.one", "first", 5, 0));
  value("length", call(SYS_lgetxattr, "numbers/file", "user.one", nullptr, 0L));
  value("no room", call(SYS_lgetxattr, "numbers/file", "user.one", text, 2L));
  value("there", call(SYS_lgetxattr, "numbers/file", "user.one", text, sizeof text));
  value("of its link", call(SYS_lgetxattr, "numbers/link", "user.one", text, sizeof text));

  begin("statx");
  struct statx all{};
  value("file", call(SYS_statx, folder, "file", 0, STATX_SIZE, &all));
  value("size", static_cast<long>(all.stx_size));
  value("by descriptor", call(SYS_statx, file, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &all));
  value("missing", call(SYS_statx, folder, "none", 0, STATX_SIZE, &all));
  value("unknown flag", call(SYS_statx, folder, "file", 1, STATX_SIZE, &all));
  value("reserved bit", call(SYS_statx, folder, "file", 0, 0x80000000U, &all));
  value("to a bad place", call(SYS_statx, folder, "file", 0, STATX_SIZE, kBad));

  begin("fstatfs");
  struct statfs system{};
  value("file", call(SYS_fstatfs, file, &system));
  truth("names may be long", system.f_namelen >= 255);
  value("folder", call(SYS_fstatfs, folder, &system));
  value("no descriptor", call(SYS_fstatfs, -1L, &system));
  value("to a bad place", call(SYS_fstatfs, file, kBad));

  begin("fsync");
  value("file", call(SYS_fsync, file));
  value("folder", call(SYS_fsync, folder));
  value("pipe", call(SYS_fsync, static_cast<long>(ends[0])));
  value("no descriptor", call(SYS_fsync, -1L));
  begin("fdatasync");
  value("file", call(SYS_fdatasync, file));
  value("folder", call(SYS_fdatasync, folder));
  value("pipe", call(SYS_fdatasync, static_cast<long>(ends[0])));
  value("no descriptor", call(SYS_fdatasync, -1L));

  begin("fadvise64");
  value("file", call(SYS_fadvise64, file, 0L, 10L, POSIX_FADV_SEQUENTIAL));
  value("unknown advice", call(SYS_fadvise64, file, 0L, 10L, 99));
  value("negative length", call(SYS_fadvise64, file, 0L, -1L, POSIX_FADV_NORMAL));
  value("pipe", call(SYS_fadvise64, static_cast<long>(ends[0]), 0L, 0L, POSIX_FADV_NORMAL));
  value("no descriptor", call(SYS_fadvise64, -1L, 0L, 0L, POSIX_FADV_NORMAL));

  begin("fchdir");
  line("there and back", in_child([&] {
         if (call(SYS_fchdir, folder) != 0) return 1;
         return access("file", F_OK) == 0 ? 5 : 2;
       }));
  value("file", call(SYS_fchdir, file));
  value("pipe", call(SYS_fchdir, static_cast<long>(ends[0])));
  value("no descriptor", call(SYS_fchdir, -1L));
  line("where nobody may", in_child([&] {
         if (chmod("numbers", 0700) != 0 || setuid(kNobody) != 0) return 99;
         return call(SYS_fchdir, folder) == -1 ? errno : 0;
       }));
  for (const long each : {folder, file, made, itself, long{ends[0]}, long{ends[1]}})
    close(static_cast<int>(each));
}

void identities() {
  begin("setgid");
  value("nobody's", call(SYS_setgid, -1));
  line("root to any",
       in_child([] { return call(SYS_setgid, 77) == 0 && getegid() == 77 ? 5 : 1; }));
  line("another to its own", in_child([] {
         if (setresgid(10, 20, 30) != 0 || setuid(kNobody) != 0) return 99;
         const bool real = call(SYS_setgid, 10) == 0 && getegid() == 10;
         const bool saved = call(SYS_setgid, 30) == 0 && getegid() == 30;
         return (real ? 1 : 0) + (saved ? 2 : 0);
       }));
  line("another to others", in_child([] {
         if (setgid(10) != 0 || setuid(kNobody) != 0) return 99;
         return call(SYS_setgid, 11) == -1 ? errno : 0;
       }));

  begin("getgroups");
  const auto with_three = [](long room, const void* where) {
    return in_child([=] {
      const gid_t three[] = {4, 5, 6};
      gid_t out[8] = {};
      if (setgroups(3, three) != 0) return 99;
      const long got = call(SYS_getgroups, room, where == nullptr ? out : where);
      return got == -1 ? 100 + errno : static_cast<int>(got) * 10 + static_cast<int>(out[2]);
    });
  };
  line("three", with_three(8, nullptr));
  line("how many", with_three(0, nullptr));
  line("no room", with_three(2, nullptr));
  line("negative", with_three(-1, nullptr));
  line("to a bad place", with_three(8, kBad));

  begin("umask");
  const long before = call(SYS_umask, 027);
  value("is now", call(SYS_umask, 0));
  value("was", (call(SYS_umask, 0177777), call(SYS_umask, 022)));
  line("a child's is ours", in_child([] { return static_cast<int>(call(SYS_umask, 0)); }));
  value("ours stays", call(SYS_umask, static_cast<int>(before)));
}

void waits() {
  begin("nanosleep");
  const timespec shortly{0, 1'000'000};
  const timespec wrong{0, 1'000'000'000};
  const timespec negative{-1, 0};
  value("a millisecond", call(SYS_nanosleep, &shortly, nullptr));
  value("wrong time", call(SYS_nanosleep, &wrong, nullptr));
  value("negative time", call(SYS_nanosleep, &negative, nullptr));
  value("bad time", call(SYS_nanosleep, kBad, nullptr));
  line("a signal ends it", in_child([] {
         struct sigaction action{};
         action.sa_handler = [](int) {};
         sigaction(SIGALRM, &action, nullptr);
         ualarm(20'000, 0);
         const timespec hour{3600, 0};
         timespec left{};
         const long got = call(SYS_nanosleep, &hour, &left);
         return (got == -1 ? errno : 0) * 10 + (left.tv_sec >= 3598 ? 1 : 0);
       }));

  begin("clock_getres");
  timespec step{};
  value("real time", call(SYS_clock_getres, CLOCK_REALTIME, &step));
  value("step", step.tv_nsec);
  value("nobody asks", call(SYS_clock_getres, CLOCK_MONOTONIC, nullptr));
  value("unknown clock", call(SYS_clock_getres, 99, &step));
  value("to a bad place", call(SYS_clock_getres, CLOCK_BOOTTIME, kBad));
  value("processor time", call(SYS_clock_getres, CLOCK_PROCESS_CPUTIME_ID, &step));

  begin("rt_sigsuspend");
  const unsigned long none = 0;
  value("wrong size", call(SYS_rt_sigsuspend, &none, 4L));
  value("bad mask", call(SYS_rt_sigsuspend, kBad, 8L));
  const auto pending = [](bool handled) {
    return in_child([=] {
      struct sigaction action{};
      action.sa_handler = handled ? [](int) {} : SIG_DFL;
      sigaction(SIGUSR1, &action, nullptr);
      sigset_t blocked;
      sigemptyset(&blocked);
      sigaddset(&blocked, SIGUSR1);
      sigprocmask(SIG_BLOCK, &blocked, nullptr);
      raise(SIGUSR1);
      const unsigned long open = 0;
      const long got = call(SYS_rt_sigsuspend, &open, 8L);
      const int why = got == -1 ? errno : 0;
      sigset_t now;
      sigprocmask(SIG_BLOCK, nullptr, &now);
      return why * 10 + (sigismember(&now, SIGUSR1) == 1 ? 1 : 0);
    });
  };
  line("a handled signal", pending(true));
  line("one that ends us", pending(false));

  begin("epoll_create");
  value("none", call(SYS_epoll_create, 0));
  value("negative", call(SYS_epoll_create, -1));
  const long set = ok("one", call(SYS_epoll_create, 1));
  truth("stays open at exec", (fcntl(static_cast<int>(set), F_GETFD) & FD_CLOEXEC) == 0);
  line("no descriptor left", in_child([] {
         const rlimit few{3, 3};
         setrlimit(RLIMIT_NOFILE, &few);
         return call(SYS_epoll_create, 1) == -1 ? errno : 0;
       }));
  begin("epoll_pwait");
  epoll_event event{};
  value("nothing", call(SYS_epoll_pwait, set, &event, 1, 0, nullptr, 8L));
  value("for none", call(SYS_epoll_pwait, set, &event, 0, 0, nullptr, 8L));
  value("of no epoll", call(SYS_epoll_pwait, 1L, &event, 1, 0, nullptr, 8L));
  value("wrong size of the mask", call(SYS_epoll_pwait, set, &event, 1, 0, &none, 4L));
  value("bad mask", call(SYS_epoll_pwait, set, &event, 1, 0, kBad, 8L));
  close(static_cast<int>(set));

  begin("vfork");
  volatile int shared = 0;
  // The parent stands still until the child is done with its memory.
  pid_t child = vfork();
  if (child == 0) {
    usleep(10'000);
    shared = 7;
    _exit(3);
  }
  value("what it wrote", shared);
  int status = 0;
  truth("its end", waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
  child = vfork();
  if (child == 0) {
    shared = getppid();
    _exit(0);
  }
  truth("its parent", shared == getpid() && waitpid(child, &status, 0) == child);
}

void others() {
  begin("close_range");
  value("unknown flag", call(SYS_close_range, 100L, 200L, 1));
  value("the wrong way round", call(SYS_close_range, 200L, 100L, 0));
  line("closes", in_child([] {
         const int one = dup(1);
         const int two = dup(1);
         if (call(SYS_close_range, static_cast<long>(one), static_cast<long>(two), 0) != 0)
           return 1;
         return fcntl(two, F_GETFD) == -1 ? errno : 0;
       }));
  line("at exec", in_child([] {
         const int one = dup(1);
         if (call(SYS_close_range, static_cast<long>(one), ~0L, 4) != 0) return 1;
         return fcntl(one, F_GETFD);
       }));
  begin("pkey_alloc");
  // With what it needs it depends on the processor.
  value("unknown flag", call(SYS_pkey_alloc, 1L, 0L));
  value("unknown flags", call(SYS_pkey_alloc, ~0L, 0L));
  value("unknown right", call(SYS_pkey_alloc, 0L, 4L));
  value("unknown rights", call(SYS_pkey_alloc, 0L, ~0L));

  begin("sysinfo");
  struct sysinfo info{};
  value("asked", call(SYS_sysinfo, &info));
  truth("a unit", (call(SYS_sysinfo, &info), info.mem_unit > 0));
  truth("not more free than there is", (call(SYS_sysinfo, &info), info.freeram <= info.totalram));
  truth("processes", (call(SYS_sysinfo, &info), info.procs > 0));
  value("to a bad place", call(SYS_sysinfo, kBad));

  begin("accept4");
  int pair[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
  value("no descriptor", call(SYS_accept4, -1L, nullptr, nullptr, 0));
  value("no socket", call(SYS_accept4, 1L, nullptr, nullptr, 0));
  value("unknown flag", call(SYS_accept4, static_cast<long>(pair[0]), nullptr, nullptr, 1));
  value("none that listens", call(SYS_accept4, static_cast<long>(pair[0]), nullptr, nullptr, 0));

  begin("sendmmsg");
  mmsghdr message{};
  value("no descriptor", call(SYS_sendmmsg, -1L, &message, 1, 0));
  value("no socket", call(SYS_sendmmsg, 1L, &message, 1, 0));
  value("none", call(SYS_sendmmsg, static_cast<long>(pair[0]), &message, 0, 0));
  value("from a bad place", call(SYS_sendmmsg, static_cast<long>(pair[0]), kBad, 1, 0));
  close(pair[0]);
  close(pair[1]);
}

}  // namespace

void by_number() {
  names();
  identities();
  waits();
  others();
}

}  // namespace calls
