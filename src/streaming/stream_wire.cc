#include "streaming/stream_wire.h"

#include <poll.h>

#include <algorithm>

#include "base/time.h"

namespace fluyt::streaming {
namespace {
// While nothing is read, nobody would notice that the client has gone.
constexpr int64_t kGoneCheckMs = 2'000;
}  // namespace

void QueueWire::start(std::shared_ptr<Handler> handler) {
  handler_ = std::move(handler);
  active_at_ns_ = now_boot_ns();
  check_idle();
  const auto kept = handler_;
  kept->on_start();
  read_more();
}

void QueueWire::send(std::string bytes) {
  if (state_ != State::kOpen || overflowed_) return;
  queued_bytes_ += bytes.size();
  if (queued_bytes_ > limits_.most_bytes) {
    // Not from within the handler, whose on_gone() destroys what called us.
    overflowed_ = true;
    loop_.post([self = shared_from_this()] { self->lost(); });
    return;
  }
  queue_.push_back(std::move(bytes));
  if (is_full()) was_full_ = true;
  write_more();
}

void QueueWire::pause_reading() {
  paused_ = true;
  if (!gone_check_) check_gone();
}

void QueueWire::resume_reading() {
  paused_ = false;
  gone_check_.reset();
  read_more();
}

void QueueWire::close() {
  if (state_ != State::kOpen) return;
  state_ = State::kClosing;
  paused_ = false;
  gone_check_.reset();
  // Whoever is slow has as long for the rest as for anything: the idle clock goes on.
  write_more();
  read_more();
}

void QueueWire::abort() { lost(); }

void QueueWire::lost() {
  if (state_ == State::kGone) return;
  const auto self = shared_from_this();
  state_ = State::kGone;
  idle_.reset();
  gone_check_.reset();
  goodbye_.reset();
  queue_.clear();
  queued_bytes_ = 0;
  shut();
  const auto handler = std::move(handler_);
  if (handler) handler->on_gone();
}

void QueueWire::read_more() {
  if (reading_ || paused_ || state_ == State::kGone) return;
  reading_ = true;
  read();
}

void QueueWire::read_done(std::string_view bytes) {
  active_at_ns_ = now_boot_ns();
  const auto kept = handler_;
  // Once we close, what still comes is read and dropped: closing a socket with unread bytes would
  // make the kernel throw away what the client has not read yet.
  if (state_ == State::kOpen && kept) kept->on_bytes(bytes);
  // Not before: a read that is started may fill the buffer that was just looked at.
  reading_ = false;
  read_more();
}

void QueueWire::write_more() {
  if (writing_ || state_ == State::kGone) return;
  if (!queue_.empty()) {
    writing_ = true;
    write(queue_.front());
    return;
  }
  if (state_ == State::kClosing && !goodbye_) {
    goodbye_ = loop_.after(limits_.goodbye_ms, [this] { lost(); });
    say_goodbye();
  }
}

void QueueWire::write_done() {
  writing_ = false;
  if (state_ == State::kGone) return;
  active_at_ns_ = now_boot_ns();
  queued_bytes_ -= queue_.front().size();
  queue_.pop_front();
  if (was_full_ && queued_bytes_ <= limits_.much_bytes / 2) {
    was_full_ = false;
    const auto kept = handler_;
    if (kept) kept->on_room();
  }
  write_more();
}

void QueueWire::check_idle() {
  const int64_t left_ms = limits_.idle_ms - (now_boot_ns() - active_at_ns_) / 1'000'000;
  if (left_ms <= 0) {
    lost();
    return;
  }
  idle_ = loop_.after(left_ms, [this] { check_idle(); });
}

void QueueWire::check_gone() {
  gone_check_ = loop_.after(kGoneCheckMs, [this] {
    pollfd entry{.fd = socket(), .events = POLLRDHUP, .revents = 0};
    if (::poll(&entry, 1, 0) > 0) {
      lost();
      return;
    }
    check_gone();
  });
}

}  // namespace fluyt::streaming
