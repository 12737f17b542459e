#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "base/strings.h"
#include "cmd/rung/rung.h"
#include "guest/sandbox/text.h"
#include "sys/file.h"
#include "sys/pty.h"

namespace fluyt::rung {

namespace {

constexpr int kFailed = 1;
constexpr size_t kMaxText = size_t{64} << 20;

// Words: the container's id, then descriptors: the request's text, ready, gate, report, control,
// strace, log.
Result<int> live(const std::vector<std::string_view>& words) {
  if (words.size() != 8) return Error(Code::kInvalidArgument, "sentry: expected eight words");
  const sys::Fd text(descriptor_of(words[1]));
  guest::ContainerRequest request;
  request.ready = sys::Fd(descriptor_of(words[2]));
  request.gate = sys::Fd(descriptor_of(words[3]));
  request.report = sys::Fd(descriptor_of(words[4]));
  request.control = sys::Fd(descriptor_of(words[5]));
  request.strace = sys::Fd(descriptor_of(words[6]));
  request.log = sys::Fd(descriptor_of(words[7]));
  request.sandbox = FLUYT_TRY(guest::parse_sandbox(FLUYT_TRY(sys::read_all(text, kMaxText))));
  if (isatty(STDIN_FILENO) == 1) FLUYT_TRY(sys::set_controlling_terminal(sys::FdRef(STDIN_FILENO)));
  return guest::run_container(std::move(request));
}

}  // namespace

int descriptor_of(std::string_view word) {
  const auto number = parse_number<int>(word);
  if (!number) _exit(kFailed);
  return *number;
}

void run_sentry(const std::vector<std::string_view>& words) {
  const auto done = live(words);
  // Who waits for it has been told why.
  if (!done.ok()) _exit(kFailed);
  const int status = *done;
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

}  // namespace fluyt::rung
