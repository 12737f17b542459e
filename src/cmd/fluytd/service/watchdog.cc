#include "cmd/fluytd/service/watchdog.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::daemon {
namespace {

/// RFC 9113, 3.4: what a client sends first, and an empty SETTINGS frame. A server answers with its
/// own SETTINGS, a frame of type 4 on stream 0.
constexpr std::string_view kPreface("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
constexpr size_t kFrameHead = 9;
constexpr char kSettings = 4;

}  // namespace

Result<> check_answers(const std::string& path, Deadline deadline) {
  const sys::Fd socket = FLUYT_TRY(sys::connect_unix(path, SOCK_STREAM));
  FLUYT_TRY(sys::write_all(socket, kPreface));
  std::string head;
  std::array<char, 256> buffer{};
  while (head.size() < kFrameHead) {
    pollfd entry{.fd = socket.raw(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&entry, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return Error(Code::kDeadlineExceeded, cat(path, ": no answer in time"));
    const size_t got = FLUYT_TRY(sys::read_some(socket, buffer));
    if (got == 0) return Error(Code::kUnavailable, cat(path, ": hung up without an answer"));
    head.append(buffer.data(), got);
  }
  if (head[3] == kSettings) return {};
  return Error(Code::kInternal, cat(path, ": answers with something else than HTTP/2"));
}

Watchdog::Watchdog(const ServiceManager& manager, std::function<void()> look, std::string path,
                   Logger& logger)
    : manager_(manager), look_(std::move(look)), path_(std::move(path)), logger_(logger) {
  const auto limit = manager.watchdog_ms();
  if (limit) thread_ = std::thread([this, period = *limit / 2] { run(period); });
}

void Watchdog::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::run(int64_t period_ms) {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    // A lock that is never given back keeps us here, and the manager hears nothing: that is the
    // point.
    look_();
    const auto answers = check_answers(path_, Deadline::after_ms(period_ms));
    if (answers.ok()) {
      manager_.alive();
    } else {
      logger_.error(cat("watchdog: ", answers.error().message()));
    }
    lock.lock();
    stopped_.wait_for(lock, std::chrono::milliseconds(period_ms), [this] { return stopping_; });
  }
}

}  // namespace fluyt::daemon
