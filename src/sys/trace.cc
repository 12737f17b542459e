#include "sys/trace.h"

#include <linux/filter.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <cerrno>

#include "base/strings.h"

namespace fluyt::sys {

namespace {

// Traced for as long as this lives.
class Seized {
 public:
  static Result<Seized> create(pid_t thread) {
    if (ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0)
      return Error::from_errno(errno, cat("ptrace(PTRACE_SEIZE, ", thread, ")"));
    Seized seized(thread);
    // One in a group stop reports it at once; the interrupt is for one on its way there.
    ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
    int status = 0;
    pid_t got = 0;
    do {
      got = waitpid(thread, &status, __WALL);
    } while (got < 0 && errno == EINTR);
    if (got != thread || !WIFSTOPPED(status)) {
      return Error(Code::kFailedPrecondition, cat("thread ", thread, " does not stand still"));
    }
    return seized;
  }
  Seized(Seized&& other) noexcept : thread_(std::exchange(other.thread_, 0)) {}
  Seized(const Seized&) = delete;
  Seized& operator=(const Seized&) = delete;
  Seized& operator=(Seized&&) = delete;
  ~Seized() {
    if (thread_ != 0) ptrace(PTRACE_DETACH, thread_, nullptr, nullptr);
  }

 private:
  explicit Seized(pid_t thread) : thread_(thread) {}
  pid_t thread_;
};

}  // namespace

Result<std::vector<std::string>> seccomp_filters_of(pid_t thread, size_t limit) {
  const Seized seized = FLUYT_TRY(Seized::create(thread));
  std::vector<std::string> filters;
  while (filters.size() < limit) {
    const auto index = filters.size();
    const long count = ptrace(PTRACE_SECCOMP_GET_FILTER, thread, index, nullptr);
    // EINVAL: no filter at all; ENOENT: no further one.
    if (count < 0 && (errno == ENOENT || errno == EINVAL)) break;
    std::string bytes;
    if (count > 0) {
      bytes.resize(static_cast<size_t>(count) * sizeof(sock_filter));
      if (ptrace(PTRACE_SECCOMP_GET_FILTER, thread, index, bytes.data()) == count) {
        filters.push_back(std::move(bytes));
        continue;
      }
    }
    return Error::from_errno(errno, cat("ptrace(PTRACE_SECCOMP_GET_FILTER, ", thread, ")"));
  }
  return filters;
}

}  // namespace fluyt::sys
