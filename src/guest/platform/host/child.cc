#include "guest/platform/host/child.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/socket.h"

namespace fluyt::guest::host {

Result<Child> Child::start(const char* name, const std::vector<sys::FdRef>& kept,
                           const Life& life) {
  sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  const pid_t sentry = getpid();
  const pid_t pid = fork();
  if (pid < 0) return Error::from_errno(errno, cat("fork(", name, ")"));
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != sentry) _exit(1);
    prctl(PR_SET_NAME, name);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    setsid();
    std::vector<int> open = {pair.second.raw()};
    for (const sys::FdRef fd : kept) open.push_back(fd.raw());
    if (!sys::close_all_but(std::move(open)).ok()) _exit(1);
    life(pair.second);
    _exit(1);
  }
  return Child(pid, std::move(pair.first));
}

Child::~Child() {
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace fluyt::guest::host
