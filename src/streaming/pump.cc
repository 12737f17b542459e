#include "streaming/pump.h"

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "sys/file.h"

namespace fluyt::streaming {

// Source
// --------------------------------------------------------------------------------------------

Result<std::unique_ptr<Source>> Source::create(Loop& loop, sys::Fd fd, Taker taker) {
  auto source = std::unique_ptr<Source>(new Source(loop, std::move(taker)));
  source->watch_ = FLUYT_TRY(loop.watch(std::move(fd)));
  source->wait();
  return source;
}

void Source::wait() {
  if (paused_ || waiting_ || !watch_) return;
  waiting_ = true;
  watch_->when_readable([this] {
    waiting_ = false;
    if (!paused_) read();
  });
}

void Source::resume() {
  if (!paused_) return;
  paused_ = false;
  if (until_quiet_) end_when_quiet();
  if (left_ && *left_ == 0) {
    end();
    return;
  }
  wait();
}

void Source::read() {
  std::array<char, 32UL << 10U>
      buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): read into
  const size_t most = std::min(buffer.size(), left_.value_or(buffer.size()));
  const auto got = sys::read_some(watch_->fd(), {buffer.data(), most});
  if (!got.ok() && got.error().errno_value() == EAGAIN) {
    wait();
    return;
  }
  // EIO is a terminal's end of file: nobody holds its other side any more.
  if (!got.ok() || *got == 0) {
    end();
    return;
  }
  if (left_) *left_ -= *got;
  if (until_quiet_) end_when_quiet();
  // Ready for more before the taker is called, since that may destroy us.
  const bool last = left_ && *left_ == 0;
  const Taker taker = taker_;
  if (!last) wait();
  const std::weak_ptr<char> alive = alive_;
  taker({buffer.data(), *got});
  if (last && alive.lock() && !paused_) end();
}

void Source::end_after_what_is_there() {
  if (!watch_) return;
  int there = 0;
  if (::ioctl(watch_->fd().raw(), FIONREAD, &there) != 0) there = 0;
  left_ = static_cast<size_t>(std::max(there, 0));
  if (*left_ == 0 && !paused_) end();
}

void Source::end_when_quiet() {
  until_quiet_ = true;
  if (!left_) left_ = kMaxTail;
  if (!watch_ || paused_) {
    quiet_.reset();
    return;
  }
  quiet_ = loop_.after(kQuietMs, [this] {
    if (!paused_) end();
  });
}

void Source::end() {
  if (!watch_) return;
  watch_.reset();
  quiet_.reset();
  const Taker taker = taker_;
  taker({});
}

// Sink
// ----------------------------------------------------------------------------------------------

Result<std::unique_ptr<Sink>> Sink::create(Loop& loop, sys::Fd fd, End end,
                                           std::function<void()> on_room) {
  auto sink = std::unique_ptr<Sink>(new Sink(end, std::move(on_room)));
  sink->watch_ = FLUYT_TRY(loop.watch(std::move(fd)));
  return sink;
}

void Sink::write(std::string_view bytes) {
  if (!watch_ || finishing_) return;
  kept_ += bytes;
  if (!waiting_) flush();
}

void Sink::finish() {
  finishing_ = true;
  if (watch_ && kept_.empty()) end_now();
}

void Sink::flush() {
  const bool was_full = is_full();
  size_t done = 0;
  while (done < kept_.size()) {
    const ssize_t put = ::write(watch_->fd().raw(), kept_.data() + done, kept_.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) break;
    if (put < 0) {
      drop();
      break;
    }
    done += static_cast<size_t>(put);
  }
  kept_.erase(0, std::min(done, kept_.size()));
  if (watch_ && !kept_.empty()) {
    waiting_ = true;
    watch_->when_writable([this] {
      waiting_ = false;
      flush();
    });
  }
  if (watch_ && kept_.empty() && finishing_) end_now();
  if (was_full && !is_full()) on_room_();
}

void Sink::end_now() {
  if (end_ == End::kShutdown) ::shutdown(watch_->fd().raw(), SHUT_WR);
  watch_.reset();
}

void Sink::drop() {
  kept_.clear();
  watch_.reset();
}

}  // namespace fluyt::streaming
