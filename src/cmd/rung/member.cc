#include "guest/sandbox/member.h"

#include <sys/wait.h>
#include <unistd.h>

#include <utility>

#include "cmd/rung/rung.h"
#include "sys/pty.h"

namespace fluyt::rung {

namespace {

constexpr int kFailed = 1;

// Words: the container's id, then descriptors: the request's text, the connection to the sandbox,
// the container's own listener, born, go, ready, gate, report, strace, log.
Result<int> live(const std::vector<std::string_view>& words) {
  if (words.size() != 11) return Error(Code::kInvalidArgument, "member: expected eleven words");
  guest::MemberRequest request;
  size_t next = 1;
  for (sys::Fd* fd :
       {&request.text, &request.sandbox, &request.listener, &request.born, &request.go,
        &request.ready, &request.gate, &request.report, &request.strace, &request.log})
    *fd = sys::Fd(descriptor_of(words[next++]));
  if (isatty(STDIN_FILENO) == 1) FLUYT_TRY(sys::set_controlling_terminal(sys::FdRef(STDIN_FILENO)));
  return guest::run_member(std::move(request));
}

}  // namespace

void run_member(const std::vector<std::string_view>& words) {
  const auto done = live(words);
  // Who waits for it has been told why.
  if (!done.ok()) _exit(kFailed);
  const int status = *done;
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

}  // namespace fluyt::rung
