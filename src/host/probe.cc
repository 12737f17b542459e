#include "host/probe.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "base/time.h"
#include "sys/clone.h"
#include "sys/file.h"

namespace fluyt::host {

namespace {

constexpr int kPatienceMs = 10'000;
constexpr size_t kMaxAnswer = 4096;

// "+found", or the code as a letter and the message.
std::string encode(const Result<std::string>& tried) {
  if (tried.ok()) return "+" + *tried;
  return static_cast<char>('a' + static_cast<int>(tried.error().code())) + tried.error().message();
}

Result<std::string> decode(const std::string& answer) {
  if (answer.starts_with('+')) return answer.substr(1);
  return Error(static_cast<Code>(answer[0] - 'a'), answer.substr(1));
}

// Everything up to the end of what the child writes; nothing when the time is over.
Result<std::string> read_answer(sys::FdRef pipe) {
  const Deadline deadline = Deadline::after_ms(kPatienceMs);
  std::string answer;
  std::array<char, kMaxAnswer> buffer{};
  while (answer.size() < kMaxAnswer) {
    pollfd what{.fd = pipe.raw(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&what, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0)
      return Error(Code::kDeadlineExceeded, cat("no end after ", kPatienceMs / 1000, " s"));
    const size_t got = FLUYT_TRY(sys::read_some(pipe, buffer));
    if (got == 0) break;
    answer.append(buffer.data(), got);
  }
  return answer;
}

[[noreturn]] void live(const Probe& probe, pid_t parent, sys::FdRef to) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The first process of a PID namespace sees no parent.
  const pid_t above = ::getppid();
  if (above != 0 && above != parent) ::_exit(1);
  // libnftables says on its way out why it ends.
  if (const sys::Fd null(::open("/dev/null", O_WRONLY | O_CLOEXEC)); null.valid()) {
    sys::place_descriptor(null, 2).ignore("it would be noise alone");
  }
  sys::write_all(to, encode(probe())).ignore("nobody is there to be told");
  ::_exit(0);
}

}  // namespace

Result<std::string> in_child(const Probe& probe) {
  sys::Pipe pipe = FLUYT_TRY(sys::make_pipe());
  const pid_t parent = ::getpid();
  // fork(2), not clone3(2), and no pidfd: whether there are these is one of the questions.
  const pid_t child = ::fork();
  if (child < 0) return Error::from_errno(errno, "fork()");
  if (child == 0) live(probe, parent, pipe.write);
  pipe.write.reset();
  Result<std::string> answer = read_answer(pipe.read);
  if (!answer.ok()) ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!answer.ok()) return answer;
  if (!answer->empty()) return decode(*answer);
  return Error(Code::kInternal, WIFSIGNALED(status)
                                    ? cat("the probe was ended by signal ", WTERMSIG(status))
                                    : cat("the probe ended with ", WEXITSTATUS(status)));
}

void Findings::add(About about, Has has, std::string found) {
  if (has == Has::kYes) about.loses = about.remedy = "";
  all_.push_back({.group = group_,
                  .name = std::move(about.name),
                  .need = about.need,
                  .has = has,
                  .found = std::move(found),
                  .loses = std::move(about.loses),
                  .remedy = std::move(about.remedy)});
}

void Findings::add(About about, const Result<std::string>& tried) {
  if (tried.ok()) return add(std::move(about), Has::kYes, *tried);
  if (tried.error().code() == Code::kPermissionDenied && ::geteuid() != 0) {
    about.loses = about.remedy = "";
    return add(std::move(about), Has::kNo, "needs root to be tried");
  }
  add(std::move(about), Has::kNo, tried.error().message());
}

}  // namespace fluyt::host
