#include "control/streams.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "sys/file.h"

namespace fluyt::control {

namespace {

// Reads once. False when the sink refused. A pty's master gives EIO when the last slave is closed:
// that is its end of file.
bool move_once(Source& source, std::array<char, 32768>& buffer) {
  auto got = sys::read_some(source.fd, buffer);
  if (!got.ok() && got.error().errno_value() == EAGAIN) return true;
  if (!got.ok() || *got == 0) {
    source.fd.reset();
    return true;
  }
  return source.sink({buffer.data(), *got});
}

}  // namespace

Result<Flag> Flag::create() {
  sys::Fd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return Error::from_errno(errno, "eventfd()");
  return Flag(std::move(fd));
}

void Flag::set() const {
  const uint64_t one = 1;
  (void)!::write(fd_.raw(), &one, sizeof one);  // fails only when it is set already
}

bool wait_until_set(const Flag& flag, Deadline deadline) {
  while (true) {
    pollfd entry{.fd = flag.fd().raw(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&entry, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    return ready > 0;
  }
}

First wait_first(const Flag& first, const Flag& second) {
  while (true) {
    std::array<pollfd, 2> entries{{{first.fd().raw(), POLLIN, 0}, {second.fd().raw(), POLLIN, 0}}};
    const int ready = ::poll(entries.data(), entries.size(), -1);
    if (ready < 0 && errno == EINTR) continue;
    return entries[0].revents != 0 ? First::kFirst : First::kSecond;
  }
}

bool write_until(sys::FdRef fd, std::string_view data, const Flag& stop) {
  while (!data.empty()) {
    std::array<pollfd, 2> entries{{{fd.raw(), POLLOUT, 0}, {stop.fd().raw(), POLLIN, 0}}};
    const int ready = ::poll(entries.data(), entries.size(), -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0 || entries[1].revents != 0) return false;
    const ssize_t put = ::write(fd.raw(), data.data(), data.size());
    if (put > 0) data.remove_prefix(static_cast<size_t>(put));
    if (put < 0 && errno != EAGAIN && errno != EINTR) return false;
  }
  return true;
}

PumpEnd pump(std::vector<Source>& sources, const Flag& stop, const Flag& finish) {
  std::array<char, 32768> buffer;
  while (true) {
    // Looked at before the sources: what was written before the process ended is then seen below.
    const bool finishing = wait_until_set(finish, Deadline::after_ms(0));
    std::vector<pollfd> entries = {{stop.fd().raw(), POLLIN, 0}};
    if (!finishing) entries.push_back({finish.fd().raw(), POLLIN, 0});
    const size_t first = entries.size();
    bool open = false;
    for (const Source& source : sources) {
      entries.push_back({source.fd.raw(), POLLIN, 0});  // a negative one is skipped by poll(2)
      open = open || source.fd.valid();
    }
    if (!open) return PumpEnd::kAllEnded;
    const int ready = ::poll(entries.data(), entries.size(), finishing ? 0 : -1);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0 || entries[0].revents != 0) return PumpEnd::kStopped;
    if (ready == 0) return PumpEnd::kDrained;
    for (size_t i = 0; i < sources.size(); ++i) {
      if (entries[first + i].revents == 0) continue;
      if (!move_once(sources[i], buffer)) return PumpEnd::kStopped;
    }
  }
}

}  // namespace fluyt::control
