#include "monitor/process/workers.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "base/trace.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::monitor {

namespace {

// One packet each: a letter, then text. A reply is the length of its trace, a space, the trace and
// what it says; an error is its code's number, a space and its sentence.
constexpr char kAnnouncement = 'A';
constexpr char kReply = 'R';
constexpr char kError = 'E';
constexpr size_t kMaxPacketBytes = 128UL << 10U;
constexpr size_t kMaxErrorBytes = 16UL << 10U;

void close_all_but(std::vector<int> kept) {
  std::sort(kept.begin(), kept.end());
  unsigned next = 3;  // 0 to 2 are /dev/null and the monitor's log
  for (const int fd : kept) {
    if (fd < static_cast<int>(next)) continue;
    if (fd > static_cast<int>(next)) syscall(SYS_close_range, next, fd - 1, 0);
    next = static_cast<unsigned>(fd) + 1;
  }
  syscall(SYS_close_range, next, ~0U, 0);
}

// Containers whose spec says nothing get the kernel's default, not the monitor's protection.
void give_up_oom_protection() {
  auto text = sys::read_file("/proc/self/oom_score_adj", 64);
  if (!text.ok() || !text->starts_with('-')) return;
  sys::write_file(sys::kCwd, "/proc/self/oom_score_adj", "0")
      .ignore("raising it is always allowed");
}

[[noreturn]] void run_worker(const WorkerJob& job, sys::FdRef socket) {
  // Ends with the monitor: what it would tell nobody would hear.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  setsid();
  for (int number = 1; number < NSIG; ++number) signal(number, SIG_DFL);
  signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::vector<int> kept = {socket.raw()};
  for (const sys::FdRef fd : job.keep) kept.push_back(fd.raw());
  close_all_but(std::move(kept));
  give_up_oom_protection();

  const Announce announce = [socket](std::string_view text) {
    sys::send_with_fds(socket, cat(kAnnouncement, text), {}).ignore("the monitor then knows less");
  };
  const trace::Collector parts;
  const auto reply = job.body(announce);
  if (reply.ok()) {
    std::vector<sys::FdRef> fds;
    for (const sys::Fd& fd : reply->fds) fds.push_back(fd);
    const std::string trace = parts.text();
    auto sent = sys::send_with_fds(socket, cat(kReply, trace.size(), " ", trace, reply->text), fds);
    _exit(sent.ok() ? 0 : 1);
  }
  const Error& error = reply.error();
  const auto sent = sys::send_with_fds(
      socket,
      cat(kError, static_cast<int>(error.code()), " ", error.message().substr(0, kMaxErrorBytes)),
      {});
  _exit(sent.ok() ? 0 : 1);
}

// None when it is not of that form.
std::optional<WorkerReply> reply_from(std::string_view text, std::vector<sys::Fd> fds) {
  const size_t space = text.find(' ');
  const auto length = parse_number<size_t>(text.substr(0, space));
  if (!length || space == std::string_view::npos || *length > text.size() - space - 1) return {};
  text.remove_prefix(space + 1);
  return WorkerReply{std::string(text.substr(*length)), std::move(fds),
                     std::string(text.substr(0, *length))};
}

Error error_from(std::string_view text) {
  const size_t space = text.find(' ');
  const auto code = parse_number<int>(text.substr(0, space));
  const bool known = code && *code >= 0 && *code <= static_cast<int>(Code::kInternal);
  return {known ? static_cast<Code>(*code) : Code::kInternal,
          std::string(space == std::string_view::npos ? text : text.substr(space + 1))};
}

}  // namespace

Workers::~Workers() {
  for (const auto& [pid, worker] : workers_) worker->process.kill(SIGKILL).ignore("we are ending");
}

Result<WorkerId> Workers::start(WorkerJob job) {
  auto pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  FLUYT_TRY(sys::set_nonblocking(pair.first, true));
  clone_args request{};
  int pidfd = -1;
  request.flags = CLONE_PIDFD;
  request.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  request.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &request, sizeof request);
  if (pid == 0) run_worker(job, pair.second);
  if (pid < 0) return Error::from_errno(errno, "clone3(worker)");
  pair.second.reset();

  auto worker = std::make_shared<Worker>();
  worker->id = next_id_++;
  worker->process = sys::Process(static_cast<pid_t>(pid), sys::Fd(pidfd));
  worker->socket = std::move(pair.first);
  worker->makes_children = job.makes_children;
  worker->done = std::move(job.done);
  const auto key = static_cast<pid_t>(pid);
  workers_[key] = worker;
  given_up_.erase(key);  // the number is used again: its old session is gone
  auto watched =
      loop_.epoll().add(worker->socket, EPOLLIN, [this, key](uint32_t) { on_message(key); });
  if (!watched.ok()) {
    worker->done = nullptr;
    worker->process.kill(SIGKILL).ignore("it is our child");
    return std::move(watched).error();
  }
  worker->timer = loop_.after_ms(job.deadline_ms, [this, key] {
    const auto at = workers_.find(key);
    if (at != workers_.end())
      give_up(*at->second, Error(Code::kDeadlineExceeded, "given up at the deadline"));
  });
  return worker->id;
}

void Workers::cancel(WorkerId id) {
  for (const auto& [pid, worker] : workers_) {
    if (worker->id != id || !worker->done) continue;
    const std::shared_ptr<Worker> kept = worker;
    give_up(*kept, Error(Code::kCancelled, "cancelled"));
    return;
  }
}

void Workers::give_up(Worker& worker, Error why) {
  worker.process.kill(SIGKILL).ignore("it is our child");
  if (worker.makes_children) given_up_.insert(worker.process.pid());
  tell(worker, std::move(why));
}

void Workers::tell(Worker& worker, Result<WorkerReply> reply) {
  loop_.cancel(worker.timer);
  if (worker.socket.valid()) loop_.epoll().remove(worker.socket);
  worker.socket.reset();
  if (!worker.done) return;
  const auto done = std::exchange(worker.done, nullptr);
  done(std::move(reply), worker.announced);
  // What nobody can name now was an orphan's: its number may soon be another's.
  if (!any_may_name_children()) exits_.clear();
}

void Workers::on_message(pid_t pid) {
  const auto at = workers_.find(pid);
  if (at == workers_.end()) return;
  const std::shared_ptr<Worker> worker = at->second;
  if (!take_message(*worker)) {
    tell(*worker, Error(Code::kInternal, "the worker ended without a word"));
  }
}

// False at end of stream.
bool Workers::take_message(Worker& worker) {
  // Exactly what is there: a large buffer would stay with the heap.
  const ssize_t size = recv(worker.socket.raw(), nullptr, 0, MSG_PEEK | MSG_TRUNC);
  if (size <= 0 || static_cast<size_t>(size) > kMaxPacketBytes) return false;
  std::string buffer(static_cast<size_t>(size), '\0');
  auto received = sys::receive_with_fds(worker.socket, buffer.data(), buffer.size());
  if (!received.ok() || received->size == 0) return false;
  const std::string_view text = std::string_view(buffer).substr(1, received->size - 1);
  if (buffer[0] == kAnnouncement) {
    worker.announced = text;
  } else if (buffer[0] == kReply) {
    auto reply = reply_from(text, std::move(received->fds));
    tell(worker, reply ? Result<WorkerReply>(std::move(*reply))
                       : Error(Code::kInternal, "the worker's reply is not to be read"));
  } else {
    tell(worker, error_from(text));
  }
  return true;
}

bool Workers::on_exit(pid_t pid, sys::ExitStatus status) {
  const auto at = workers_.find(pid);
  if (at == workers_.end()) return false;
  const std::shared_ptr<Worker> worker = at->second;
  // It may have told everything before it ended.
  while (worker->done && take_message(*worker)) {
  }
  tell(*worker, Error(Code::kInternal,
                      cat("the worker ended with ", status.signal != 0 ? "signal " : "status ",
                          status.signal != 0 ? status.signal : status.code)));
  workers_.erase(pid);
  return true;
}

bool Workers::busy() const {
  return std::any_of(workers_.begin(), workers_.end(),
                     [](const auto& entry) { return entry.second->done != nullptr; });
}

void Workers::keep_exit(pid_t pid, sys::ExitStatus status) {
  if (any_may_name_children()) exits_[pid] = status;
}

std::optional<sys::ExitStatus> Workers::take_exit(pid_t pid) {
  const auto at = exits_.find(pid);
  if (at == exits_.end()) return std::nullopt;
  const sys::ExitStatus status = at->second;
  exits_.erase(at);
  return status;
}

bool Workers::any_may_name_children() const {
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& entry) {
    return entry.second->makes_children && entry.second->done != nullptr;
  });
}

}  // namespace fluyt::monitor
