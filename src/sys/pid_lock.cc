#include "sys/pid_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {

constexpr auto kLook = std::chrono::milliseconds(10);

std::optional<pid_t> holder_in(const std::string& path) {
  constexpr size_t kMaxHolder = 64;
  const auto text = read_file(path, kMaxHolder);
  return text.ok() ? parse_number<pid_t>(trim(*text)) : std::nullopt;
}

}  // namespace

Result<Fd> take_pid_lock(const std::string& path, Deadline patience) {
  Fd lock = FLUYT_TRY(open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  while (::flock(lock.raw(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return Error::from_errno(errno, cat("flock(", quote(path), ")"));
    const auto holder = holder_in(path);
    const bool is_dead = holder && ::kill(*holder, 0) != 0 && errno == ESRCH;
    if (!is_dead || patience.poll_timeout_ms() == 0) {
      return Error(Code::kAlreadyExists,
                   holder ? cat("pid ", *holder) : std::string("a process that is not known"));
    }
    // Locks of this kind tell nobody when they are free, but by waiting for good.
    std::this_thread::sleep_for(kLook);
  }
  // For the message to the next who comes.
  if (::ftruncate(lock.raw(), 0) == 0)
    write_all(lock, cat(::getpid(), "\n")).ignore("a full disk is no reason not to start");
  return lock;
}

}  // namespace fluyt::sys
