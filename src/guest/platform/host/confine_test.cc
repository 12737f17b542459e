#include "guest/platform/host/confine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

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
  for (const int number : {SIGTERM, SIGKILL, SIGSEGV}) {
    const int ended = messenger([&] { return raise(number); });
    EXPECT_TRUE(WIFSIGNALED(ended) && WTERMSIG(ended) == number) << number;
    EXPECT_FALSE(WCOREDUMP(ended));
  }
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
