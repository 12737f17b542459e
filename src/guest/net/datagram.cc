#include "guest/net/datagram.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "guest/platform/host/io.h"

namespace fluyt::guest {

DatagramSocket::DatagramSocket(std::shared_ptr<Network> network, int family, int type, int protocol,
                               int flags)
    : Socket(network, family, type, protocol, flags), received_(network) {
  inbox_ = &received_;
}

DatagramSocket::~DatagramSocket() { inbox_ = nullptr; }

Errno DatagramSocket::deliver(Segment segment, Full when_full) {
  {
    std::lock_guard lock(mutex_);
    if (when_full != Full::kExceed && full()) {
      if (when_full == Full::kRefuse) return Errno(EAGAIN);
      ++dropped_;
      return kOk;
    }
    segment.dropped = dropped_;
    if (wants_time()) segment.came_ns = host::clock_ns(CLOCK_REALTIME);
    const Errno pushed = received_.push(std::move(segment));
    if (!pushed.ok()) {
      ++dropped_;
      return when_full == Full::kDrop ? kOk : pushed;
    }
  }
  queue_->wake_all(POLLIN | POLLRDNORM);
  return kOk;
}

void DatagramSocket::set_error(int error) {
  {
    std::lock_guard lock(mutex_);
    error_ = error;
  }
  queue_->wake_all();
}

ErrnoOr<Socket::Incoming> DatagramSocket::receive(Caller& caller, std::span<std::byte> to,
                                                  int flags) {
  if ((flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  const Deadline deadline = receive_deadline();
  Incoming in;
  Errno failed;
  bool taken = false;
  const auto take = [&] {
    std::lock_guard lock(mutex_);
    if (error_ != 0) {
      failed = Errno(std::exchange(error_, 0));
      return true;
    }
    if (received_.empty()) return no_receiving_;
    Segment& first = received_.front();
    in.whole = first.data.size();
    in.count = std::min(to.size(), in.whole);
    std::memcpy(to.data(), first.data.data(), in.count);
    in.from = first.from;
    in.sender = first.sender;
    in.flags = in.count < in.whole ? MSG_TRUNC : 0;
    tell_time(first.came_ns, in.control);
    if (tells_drops_ && first.dropped != 0)
      in.control.push_back(ControlMessage::of(SOL_SOCKET, SO_RXQ_OVFL, first.dropped));
    describe(first, in);
    taken = true;
    if ((flags & MSG_PEEK) != 0)
      in.files = first.files;
    else
      in.files = received_.pop().files;
    return true;
  };
  if (!take()) {
    if (dont_wait(flags)) return Errno(EAGAIN);
    if (const Errno waiting = wait_until(*queue_, caller.sleeper, deadline, take); !waiting.ok())
      return waited(waiting, deadline);
  }
  if (!failed.ok()) return failed;
  if (taken && (flags & MSG_PEEK) == 0) room_made();
  return in;
}

uint32_t DatagramSocket::ready(uint32_t) {
  const bool writable = can_send();
  std::lock_guard lock(mutex_);
  uint32_t out = writable ? POLLOUT | POLLWRNORM | POLLWRBAND : 0U;
  if (!received_.empty()) out |= POLLIN | POLLRDNORM;
  if (error_ != 0) out |= POLLERR;
  if (no_receiving_) out |= POLLIN | POLLRDNORM | POLLRDHUP;
  if (no_receiving_ && no_sending_) out |= POLLHUP;
  return out;
}

void DatagramSocket::drop_received() {
  std::vector<FilePtr> files;
  {
    std::lock_guard lock(mutex_);
    while (!received_.empty()) {
      Segment first = received_.pop();
      std::ranges::move(first.files, std::back_inserter(files));
    }
  }
  bury(std::move(files));
}

int DatagramSocket::take_error() {
  std::lock_guard lock(mutex_);
  return std::exchange(error_, 0);
}

ErrnoOr<size_t> DatagramSocket::readable_bytes() {
  std::lock_guard lock(mutex_);
  return received_.empty() ? 0 : received_.front().data.size();
}

}  // namespace fluyt::guest
