#include "monitor/program/call.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "monitor/program/log.h"
#include "sys/clone.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

constexpr int kInputNumber = 3;
constexpr int64_t kEndMs = 700;
constexpr size_t kMaxChildrenBytes = 1UL << 20U;
constexpr size_t kMaxPidBytes = 64;

std::string name_of(const ProgramCall& call) {
  const std::string& path = call.words[0];
  return path.substr(path.rfind('/') + 1);
}

// In the child. An error goes into the report pipe, which execve(2) closes.
Result<> become(const ProgramCall& call, pid_t parent, sys::FdRef null) {
  // Whoever would tell of what it makes is gone with our parent: it is not to go on alone.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  signal(SIGPIPE, SIG_DFL);
  // First out of the way of 0 to 3, then into place.
  std::array<sys::FdRef, 4> wanted = {call.in, call.out, call.err, call.input};
  std::array<sys::Fd, 4> moved;
  for (size_t number = 0; number < wanted.size(); ++number) {
    const sys::FdRef from = wanted[number].valid() ? wanted[number] : null;
    moved[number] = sys::Fd(fcntl(from.raw(), F_DUPFD_CLOEXEC, 10));
    if (!moved[number].valid()) return Error::from_errno(errno, "fcntl(F_DUPFD_CLOEXEC)");
  }
  const int last = call.input.valid() ? kInputNumber : STDERR_FILENO;
  for (int number = 0; number <= last; ++number) {
    FLUYT_TRY(sys::place_descriptor(moved[static_cast<size_t>(number)], number));
  }
  FLUYT_TRY(sys::close_on_exec_from(last + 1));
  if (chdir("/") != 0) return Error::from_errno(errno, "chdir(/)");
  std::vector<char*> argv;
  for (const std::string& word : call.words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> envp;
  for (const std::string& word : program_environment())
    envp.push_back(const_cast<char*>(word.c_str()));
  envp.push_back(nullptr);
  execve(argv[0], argv.data(), envp.data());
  return Error::from_errno(errno, cat("execve(", quote(call.words[0], 1024), ")"));
}

Result<sys::Process> start(const ProgramCall& call) {
  const sys::Fd null = FLUYT_TRY(sys::open("/dev/null", O_RDWR));
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  const pid_t parent = getpid();
  auto child = FLUYT_TRY(sys::clone_process({}));
  if (!child) {
    const sys::Fd kept = sys::Fd(fcntl(report.write.raw(), F_DUPFD_CLOEXEC, 10));
    const Result<> became = become(call, parent, null);
    sys::write_all(kept, became.error().message()).ignore("then the exit status alone tells");
    _exit(127);
  }
  report.write.reset();
  const std::string why = FLUYT_TRY(sys::read_all(report.read, kMaxLogWordsBytes));
  if (why.empty()) return std::move(*child);
  child->wait(Deadline::never()).ignore("it has told why it ends");
  return Error(Code::kInternal, why);
}

void reap_all() {
  while (waitpid(-1, nullptr, WNOHANG | __WALL) > 0) {
  }
}

std::string tail_of_file(const std::string& path) {
  if (path.empty()) return {};
  const auto file = sys::open(path, O_RDONLY | O_NOFOLLOW);
  if (!file.ok()) return {};
  const auto info = sys::stat_of(*file);
  if (!info.ok()) return {};
  const auto limit = static_cast<off_t>(kMaxLogTailBytes);
  if (info->st_size > limit) lseek(file->raw(), info->st_size - limit, SEEK_SET);
  // It may still grow: twice as much is enough.
  return sys::read_all(*file, 2 * kMaxLogTailBytes).value_or("");
}

// What lies in a pipe or a memfd now.
std::string rest_of(sys::FdRef fd) {
  if (!fd.valid()) return {};
  std::string text;
  std::array<char, 4096> buffer;
  lseek(fd.raw(), 0, SEEK_SET);  // a pipe has no offset
  sys::set_nonblocking(fd, true).ignore("whoever gets it does the same");
  while (text.size() < kMaxLogTailBytes) {
    const ssize_t got = ::read(fd.raw(), buffer.data(), buffer.size());
    if (got <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
  return text;
}

bool tells_of_missing_file(std::string_view words) {
  return words.find("no such file or directory") != std::string_view::npos ||
         words.find("No such file or directory") != std::string_view::npos ||
         words.find("not found in $PATH") != std::string_view::npos;
}

Error why_failed(const ProgramCall& call, sys::ExitStatus status) {
  std::string words = last_words(tail_of_file(call.log));
  if (words.empty()) words = last_words(rest_of(call.err_tail));
  if (words.empty()) {
    words = status.signal != 0 ? cat("ended by signal ", status.signal)
                               : cat("ended with status ", status.code, " and no word");
  }
  const Code code = tells_of_missing_file(words) ? Code::kNotFound : Code::kFailedPrecondition;
  return {code, cat(name_of(call), ": ", words)};
}

}  // namespace

Result<> adopt_orphans() {
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) == 0) return {};
  return Error::from_errno(errno, "prctl(PR_SET_CHILD_SUBREAPER)");
}

// What a killed one leaves running comes to us: rounds, until there is nobody.
void end_adopted() {
  const Deadline deadline = Deadline::after_ms(kEndMs);
  while (!deadline.passed()) {
    auto children =
        sys::read_file(cat("/proc/self/task/", getpid(), "/children"), kMaxChildrenBytes);
    if (!children.ok()) return;
    const auto words = split_words(trim(*children));
    if (words.empty()) return;
    for (const std::string_view word : words) {
      // Not reaped by anybody but us: the number is still its own.
      if (const auto pid = parse_number<pid_t>(word)) ::kill(*pid, SIGKILL);
    }
    reap_all();
    poll(nullptr, 0, 2);
  }
}

Result<> call_program(const ProgramCall& call, Deadline deadline) {
  const sys::Process program = FLUYT_TRY(start(call));
  const auto status = FLUYT_TRY(program.wait(deadline));
  Result<> result;
  if (!status) {
    end_adopted();
    const std::string words = last_words(tail_of_file(call.log));
    result = Error(Code::kDeadlineExceeded, cat(name_of(call), ": not done at the deadline",
                                                words.empty() ? "" : ": ", words));
  } else if (status->shell_code() != 0) {
    result = why_failed(call, *status);
  }
  if (!call.log.empty()) {
    sys::remove_file(sys::kCwd, call.log).ignore("it goes with its folder");
  }
  return result;
}

Result<sys::Process> adopted_process(const std::string& pid_file) {
  const std::string text =
      FLUYT_TRY_CONTEXT(sys::read_file(pid_file, kMaxPidBytes), "the program's pid file");
  sys::remove_file(sys::kCwd, pid_file).ignore("it goes with its folder");
  const auto pid = parse_number<pid_t>(trim(text));
  if (!pid || *pid <= 1) {
    return Error(Code::kInternal, cat("the program's pid file: ", quote(text), ": expected a pid"));
  }
  siginfo_t info{};
  // Not reaped by this: an exit is the monitor's to see.
  if (waitid(P_PID, static_cast<id_t>(*pid), &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0) {
    return Error(Code::kInternal,
                 cat("pid ", *pid, " of the program's pid file is no process that it has left us"));
  }
  return sys::Process::open(*pid);
}

}  // namespace fluyt::monitor
