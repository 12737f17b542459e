#include "guest/platform/host/confine.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

namespace fluyt::guest::host {
namespace {

/// The wait status of a process of its own that is a messenger when it does `what`, whose value is
/// its exit status.
template <class What>
int messenger(What what) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (!drop_privileges().ok() || !confine_messenger().ok()) _exit(99);
    _exit(what());
  }
  int status = -1;
  waitpid(pid, &status, 0);
  return status;
}

TEST(ConfineMessenger, PassesOnWhatItHasAndEndsAsItLikes) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  ASSERT_EQ(send(ends[0], "word", 4, 0), 4);
  const int status = messenger([&] {
    char word[4];
    return ::read(ends[1], word, sizeof word) == 4 && ::write(ends[1], word, 4) == 4 ? 7 : 1;
  });
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 7);
  char back[8];
  EXPECT_EQ(recv(ends[0], back, sizeof back, MSG_DONTWAIT), 4);
  close(ends[0]);
  close(ends[1]);
  // A sanitizer's handler would make an exit of it.
  const auto handler = signal(SIGSEGV, SIG_DFL);
  for (const int number : {SIGTERM, SIGKILL, SIGSEGV}) {
    const int ended = messenger([&] { return raise(number); });
    EXPECT_TRUE(WIFSIGNALED(ended) && WTERMSIG(ended) == number) << number;
    EXPECT_FALSE(WCOREDUMP(ended));
  }
  signal(SIGSEGV, handler);
}

long landlock_version() {
  return syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

/// The exit status of a process of its own.
template <class What>
int status_of(What what) {
  const pid_t pid = fork();
  if (pid == 0) _exit(what());
  int status = -1;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(StayAmongChildren, SignalsReachWhatIsMadeAfterwardsAlone) {
  if (landlock_version() < 6) GTEST_SKIP() << "Landlock before version 6 has no scopes";
  const pid_t outside = getpid();
  const int status = status_of([&] {
    int life[2];
    if (pipe(life) != 0) return 98;
    const pid_t before = fork();
    if (before == 0) {
      // Our end is not in reach of a signal.
      close(life[1]);
      char byte = 0;
      _exit(::read(life[0], &byte, 1) == 0 ? 0 : 1);
    }
    if (!stay_among_children().ok()) return 99;
    const pid_t after = fork();
    if (after == 0) pause();
    const bool kept_out = kill(outside, 0) == -1 && errno == EPERM && kill(before, 0) == -1;
    const bool ended = kill(after, SIGKILL) == 0 && waitpid(after, nullptr, 0) == after;
    return (kept_out ? 1 : 0) + (ended ? 2 : 0);
  });
  EXPECT_EQ(status, 3);
}

TEST(StayAmongChildren, AChildMadeAfterwardsEndsWithItsParent) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const int status = status_of([&] {
    if (!stay_among_children().ok()) return 99;
    int ready[2];
    if (pipe(ready) != 0) return 98;
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(ends[0]);
      alarm(60);
      if (::write(ready[1], "x", 1) != 1) _exit(1);
      for (;;) pause();
    }
    char byte = 0;
    return ::read(ready[0], &byte, 1) == 1 && drop_privileges().ok() ? 0 : 97;
  });
  EXPECT_EQ(status, 0);
  close(ends[1]);
  // It has the other end until it is gone.
  pollfd one{ends[0], POLLIN, 0};
  EXPECT_EQ(poll(&one, 1, 20'000), 1);
  close(ends[0]);
}

TEST(DropPrivileges, NoPathIsOpenedAndNoPortIsTaken) {
  const long version = landlock_version();
  if (version < 1) GTEST_SKIP() << "no Landlock";
  std::string path = testing::TempDir() + "confine_XXXXXX";
  const int file = mkstemp(path.data());
  ASSERT_GE(file, 0);
  const int status = status_of([&] {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!drop_privileges().ok()) return 99;
    if (open("/dev/null", O_RDONLY) != -1 || errno != EACCES) return 98;
    if (version >= 3 && (truncate(path.c_str(), 0) != -1 || errno != EACCES)) return 97;
    sockaddr_in loopback{};
    loopback.sin_family = AF_INET;
    loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int bound = bind(listener, reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback);
    if (version >= 4 && (bound != -1 || errno != EACCES)) return 96;
    return 0;
  });
  EXPECT_EQ(status, 0);
  close(file);
  unlink(path.c_str());
}

TEST(ConfineMessenger, OpensNoPath) {
  const int status = messenger([] { return open("/dev/null", O_RDONLY) < 0 ? errno : 0; });
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, EACCES);
}

TEST(ConfineMessenger, AnythingElseIsItsEnd) {
  const pid_t parent = getpid();
  const auto is_deadly = [](auto what) {
    const int status = messenger([&] {
      what();
      return 0;
    });
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
  };
  EXPECT_TRUE(is_deadly([] { socket(AF_UNIX, SOCK_STREAM, 0); }));
  EXPECT_TRUE(is_deadly([] { syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }));
  EXPECT_TRUE(is_deadly([] { execl("/bin/true", "true", nullptr); }));
  EXPECT_TRUE(is_deadly([&] { kill(parent, 0); }));
  EXPECT_TRUE(is_deadly([&] { syscall(SYS_tgkill, parent, parent, 0); }));
  EXPECT_TRUE(is_deadly([] { prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }));
  EXPECT_TRUE(is_deadly(
      [] { mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }));
}

}  // namespace
}  // namespace fluyt::guest::host
