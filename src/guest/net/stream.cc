#include "guest/net/stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace fluyt::guest {
namespace {
constexpr uint32_t kNobody = 65534;
}

Errno Connection::may_send(int side) {
  Side& me = sides[side];
  Side& peer = sides[1 - side];
  const int error = std::exchange(me.error, 0);
  if (error != 0) return Errno(error);
  if (!me.sends) return Errno(EPIPE);
  if (kind != Kind::kTcp && (!peer.open || !peer.receives)) return Errno(EPIPE);
  return kOk;
}

ErrnoOr<size_t> Connection::send(Caller& caller, int side, const Socket::Outgoing& out,
                                 bool dont_wait, const Deadline& deadline, const PeerIds& sender) {
  Side& me = sides[side];
  Side& peer = sides[1 - side];
  if (!is_stream() && out.data.size() > peer.capacity) return Errno(EMSGSIZE);
  size_t done = 0;
  bool files_gone = false;
  const auto ended_with = [&](Errno error) {
    return done != 0 ? ErrnoOr<size_t>(done) : ErrnoOr<size_t>(error);
  };
  // Who need not wait is in no queue.
  std::optional<WaitQueue::Entry> entry;
  for (;;) {
    {
      std::unique_lock lock(mutex);
      if (const Errno may = may_send(side); !may.ok()) return ended_with(may);
      if (is_stream() && out.data.empty()) return size_t{0};
      if (!peer.open) {
        // The other end answers what comes now with a reset, which the next call will see; a
        // buffer's worth has left until then.
        me.error = EPIPE;
        me.sends = false;
        me.reset = true;
        done += std::min(out.data.size() - done, peer.capacity);
        const std::shared_ptr<WaitQueue> queue = me.queue;
        lock.unlock();
        queue->wake_all();
        return done;
      }
      const size_t left = out.data.size() - done;
      const size_t room =
          peer.capacity > peer.inbox.charged() ? peer.capacity - peer.inbox.charged() : 0;
      const bool fits = is_stream() ? room > 0 : room >= left || peer.inbox.empty();
      if (fits) {
        const size_t count = is_stream() ? std::min(room, left) : left;
        const std::span<const std::byte> data = out.data.subspan(done, count);
        // Who sends is remembered only where one of the two had asked (SO_PASSCRED).
        const bool known = out.sender || me.passes || peer.passes;
        const PeerIds ids = known ? sender : PeerIds{0, kNobody, kNobody};
        Errno pushed;
        if (is_stream() && (out.files.empty() || files_gone)) {
          pushed = peer.inbox.push_bytes(data, ids);
        } else {
          Segment segment;
          segment.data.assign(data.begin(), data.end());
          segment.files = out.files;
          segment.sender = ids;
          pushed = peer.inbox.push(std::move(segment));
        }
        if (!pushed.ok()) return ended_with(pushed);
        files_gone = true;
        done += count;
        const std::shared_ptr<WaitQueue> queue = peer.queue;
        lock.unlock();
        queue->wake_all(POLLIN | POLLRDNORM);
        if (done == out.data.size()) return done;
        continue;
      }
      me.lacked_room = true;
    }
    if (dont_wait) return ended_with(Errno(EAGAIN));
    if (!entry) {
      entry.emplace(*me.queue, caller.sleeper, POLLOUT | POLLERR | POLLHUP);
      continue;
    }
    switch (caller.sleeper.sleep(deadline)) {
      case Sleeper::Outcome::kWoken:
        break;
      case Sleeper::Outcome::kTimedOut:
        return ended_with(Errno(EAGAIN));
      case Sleeper::Outcome::kInterrupted:
        return ended_with(Errno(deadline ? EINTR : kRestartSys));
    }
  }
}

bool Connection::ended(int side) {
  const Side& peer = sides[1 - side];
  return !sides[side].receives || !peer.open || !peer.sends || sides[side].reset;
}

/// From the segments, as far as they belong together; true when there may be more for this call.
bool Connection::take_bytes(Side& me, std::span<std::byte> to, const Reading& how,
                            Socket::Incoming& in) {
  const bool peek = (how.flags & MSG_PEEK) != 0;
  auto& segments = me.inbox.segments();
  size_t at = 0;  // of a look that takes nothing
  while (in.count < to.size()) {
    if (peek ? at == segments.size() : segments.empty()) return true;
    Segment& segment = peek ? segments[at] : segments.front();
    // What different senders wrote is not run together, when it matters who they are.
    if (in.sender && how.with_sender && !(*in.sender == segment.sender)) return false;
    in.sender = segment.sender;
    const size_t count = std::min(segment.left(), to.size() - in.count);
    std::memcpy(to.data() + in.count, segment.data.data() + segment.taken, count);
    in.count += count;
    const bool had_files = !segment.files.empty();
    if (peek) {
      in.files = segment.files;
      ++at;
    } else {
      if (had_files) in.files = me.inbox.take_files();
      me.inbox.take(count);
    }
    if (had_files) return false;
  }
  return false;
}

ErrnoOr<Socket::Incoming> Connection::receive(Caller& caller, int side, std::span<std::byte> to,
                                              const Reading& how) {
  Side& me = sides[side];
  Side& peer = sides[1 - side];
  Socket::Incoming in;
  const size_t wanted = (how.flags & MSG_WAITALL) != 0 && is_stream()
                            ? to.size()
                            : std::min(to.size(), how.low_water);
  std::optional<WaitQueue::Entry> entry;
  for (;;) {
    {
      std::unique_lock lock(mutex);
      if (!me.inbox.empty()) {
        bool more = false;
        if (!is_stream()) {
          Segment& first = me.inbox.front();
          in.whole = first.data.size();
          in.count = std::min(to.size(), in.whole);
          std::memcpy(to.data(), first.data.data(), in.count);
          in.sender = first.sender;
          in.flags = in.count < in.whole ? MSG_TRUNC : 0;
          if ((how.flags & MSG_PEEK) != 0)
            in.files = first.files;
          else
            in.files = me.inbox.pop().files;
        } else if ((how.flags & MSG_PEEK) != 0 && me.inbox.bytes() < wanted && !ended(side)) {
          more = true;  // looks again when there is more
        } else {
          const bool peek = (how.flags & MSG_PEEK) != 0;
          more = take_bytes(me, to, how, in) && !peek;
          in.whole = in.count;
        }
        std::shared_ptr<WaitQueue> writers;
        // unix(7) tells whenever there is room; TCP, as Linux does, those who found none.
        if (peer.open && me.inbox.charged() * 2 <= me.capacity &&
            (kind != Kind::kTcp || std::exchange(peer.lacked_room, false)))
          writers = peer.queue;
        const bool enough = !more || in.count >= wanted || to.empty();
        lock.unlock();
        if (writers) writers->wake_all(POLLOUT | POLLWRNORM | POLLWRBAND);
        if (enough) return in;
        lock.lock();
        if (!me.inbox.empty() && (how.flags & MSG_PEEK) == 0) continue;
      }
      if (in.count != 0 && (me.error != 0 || ended(side))) return in;
      if (const int error = std::exchange(me.error, 0); error != 0 && error != EPIPE)
        return Errno(error);
      if (ended(side)) return in;
    }
    if (how.dont_wait) return in.count != 0 ? ErrnoOr<Socket::Incoming>(in) : Errno(EAGAIN);
    if (!entry) {
      entry.emplace(*me.queue, caller.sleeper, POLLIN | POLLRDHUP | POLLERR | POLLHUP);
      continue;
    }
    switch (caller.sleeper.sleep(how.deadline)) {
      case Sleeper::Outcome::kWoken:
        break;
      case Sleeper::Outcome::kTimedOut:
        if (in.count != 0) return in;
        return Errno(EAGAIN);
      case Sleeper::Outcome::kInterrupted:
        if (in.count != 0) return in;
        return Errno(how.deadline ? EINTR : kRestartSys);
    }
  }
}

void Connection::put_back(int side, std::span<const std::byte> bytes, const PeerIds& sender) {
  std::shared_ptr<WaitQueue> queue;
  {
    std::lock_guard lock(mutex);
    if (!sides[side].open || bytes.empty()) return;
    sides[side].inbox.put_back(bytes, sender);
    queue = sides[side].queue;
  }
  queue->wake_all(POLLIN | POLLRDNORM);
}

void Connection::shut_down(int side, int how) {
  std::shared_ptr<WaitQueue> queues[2];
  {
    std::lock_guard lock(mutex);
    Side& me = sides[side];
    if (how != SHUT_WR) me.receives = false;
    if (how != SHUT_RD) me.sends = false;
    for (int i = 0; i < 2; ++i) queues[i] = sides[i].queue;
  }
  for (const auto& queue : queues) queue->wake_all();
}

void Connection::close(int side, bool abort) {
  std::vector<FilePtr> files;
  std::shared_ptr<WaitQueue> queue;
  {
    std::lock_guard lock(mutex);
    Side& me = sides[side];
    Side& peer = sides[1 - side];
    if (!me.open) return;
    me.open = false;
    // What was sent and will never be read: the peer is told.
    if (peer.open && (abort || !me.inbox.empty())) {
      peer.error = ECONNRESET;
      peer.reset = kind == Kind::kTcp;
      if (kind == Kind::kTcp) peer.sends = false;
    }
    while (!me.inbox.empty()) {
      Segment first = me.inbox.pop();
      std::ranges::move(first.files, std::back_inserter(files));
    }
    queue = peer.queue;
  }
  queue->wake_all();
  bury(std::move(files));
}

uint32_t Connection::ready(int side) {
  std::lock_guard lock(mutex);
  Side& me = sides[side];
  const Side& peer = sides[1 - side];
  const bool unix = kind != Kind::kTcp;
  const bool no_more = !me.receives || !peer.open || !peer.sends || me.reset;
  const bool no_sending = !me.sends || (unix && (!peer.open || !peer.receives)) || me.reset;
  uint32_t out = 0;
  if (me.error != 0) out |= POLLERR;
  if (no_more && no_sending) out |= POLLHUP;
  if (no_more) out |= POLLIN | POLLRDNORM | POLLRDHUP;
  if (!me.inbox.empty()) out |= POLLIN | POLLRDNORM;
  if (peer.inbox.charged() * 2 <= peer.capacity || !peer.open || no_sending) {
    out |= POLLOUT | POLLWRNORM;
    if (unix) out |= POLLWRBAND;
  } else {
    me.lacked_room = true;
  }
  return out;
}

StreamSocket::StreamSocket(std::shared_ptr<Network> network, int family, int type, int protocol,
                           int flags, Connection::Kind kind)
    : Socket(std::move(network), family, type, protocol, flags), kind_(kind) {}

StreamSocket::~StreamSocket() {
  stop_listening();
  const bool abort = kind_ == Connection::Kind::kTcp && linger_ && linger_s_ == 0;
  if (connection_) connection_->close(side_, abort);
}

void StreamSocket::stop_listening() {
  std::deque<std::shared_ptr<Connection>> waiting;
  {
    std::lock_guard lock(mutex_);
    waiting.swap(backlog_);
    if (state_ == State::kListening) state_ = State::kNew;
  }
  for (const auto& one : waiting) one->close(1, true);
  room_.wake_all();
}

void StreamSocket::adopt(std::shared_ptr<Connection> connection, int side) {
  std::lock_guard lock(mutex_);
  connection_ = std::move(connection);
  side_ = side;
  state_ = State::kConnected;
  std::lock_guard guard(connection_->mutex);
  if (side == 1)
    queue_ = connection_->sides[1].queue;
  else
    connection_->sides[0].queue = queue_;
  size(*connection_, side);
  connection_->sides[side].passes = passes_credentials();
  name_ = connection_->sides[side].name;
  inbox_ = &connection_->sides[side].inbox;
}

std::shared_ptr<Connection> StreamSocket::connection(int* side) {
  std::lock_guard lock(mutex_);
  *side = side_;
  return connection_;
}

Errno StreamSocket::listen(Caller& caller, int backlog) {
  {
    std::lock_guard lock(mutex_);
    if (state_ == State::kConnected || state_ == State::kConnecting) return Errno(EINVAL);
  }
  constexpr int kMost = 4096;  // net.core.somaxconn
  if (backlog < 0 || backlog > kMost) backlog = kMost;
  GUEST_TRY(prepare_listen(caller, backlog));
  std::lock_guard lock(mutex_);
  if (state_ == State::kConnected || state_ == State::kConnecting) return Errno(EINVAL);
  state_ = State::kListening;
  shut_early_ = 0;
  backlog_limit_ = static_cast<size_t>(backlog) + 1;  // as Linux
  listener_ids_ = ids_of(caller);
  room_.wake_all();
  return kOk;
}

Errno StreamSocket::offer(std::shared_ptr<Connection> connection) {
  {
    std::lock_guard lock(mutex_);
    if (state_ != State::kListening || shut_early_ != 0) return Errno(ECONNREFUSED);
    if (backlog_.size() >= backlog_limit_) return Errno(EAGAIN);
    connection->sides[1].ids = listener_ids_;
    connection->sides[1].inbox.wait_for(static_cast<const Socket*>(this));
    backlog_.push_back(std::move(connection));
  }
  queue_->wake_all(POLLIN | POLLRDNORM);
  return kOk;
}

ErrnoOr<Socket::Accepted> StreamSocket::accept(Caller& caller, int flags) {
  std::shared_ptr<Connection> taken;
  ErrnoOr<Accepted> from_outside = Errno(EAGAIN);
  Errno refused;
  const Deadline deadline = receive_deadline();
  const auto take = [&] {
    std::lock_guard lock(mutex_);
    if (state_ != State::kListening || shut_early_ != 0) {
      refused = Errno(EINVAL);
      return true;
    }
    if (backlog_.empty()) {
      from_outside = accept_outside(flags);
      return from_outside.error().value() != EAGAIN;
    }
    taken = std::move(backlog_.front());
    backlog_.pop_front();
    return true;
  };
  if (!take()) {
    if (nonblocking()) return Errno(EAGAIN);
    if (const Errno waiting = wait_until(*queue_, caller.sleeper, deadline, take); !waiting.ok())
      return waited(waiting, deadline);
  }
  if (!refused.ok()) return refused;
  if (!taken) return from_outside;
  room_.wake_all();
  room_made();
  std::shared_ptr<StreamSocket> made = make_accepted(flags);
  Accepted out;
  {
    std::lock_guard lock(taken->mutex);
    out.peer = taken->sides[0].name;
    taken->sides[1].inbox.wait_for(nullptr);
  }
  made->adopt(std::move(taken), 1);
  out.socket = std::move(made);
  return out;
}

ErrnoOr<size_t> StreamSocket::send(Caller& caller, const Places*, const Outgoing& out) {
  int side = 0;
  const std::shared_ptr<Connection> at = connection(&side);
  if (!at) {
    std::lock_guard lock(mutex_);
    if (const int error = std::exchange(error_, 0); error != 0) return Errno(error);
    if (kind_ == Connection::Kind::kUnixStream)
      return Errno(out.to != nullptr && out.to->length != 0 ? EOPNOTSUPP : ENOTCONN);
    if (kind_ == Connection::Kind::kUnixPacket) return Errno(ENOTCONN);
    return Errno(state_ == State::kConnecting ? EAGAIN : EPIPE);
  }
  if ((out.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (out.to != nullptr && out.to->length != 0 && kind_ == Connection::Kind::kUnixStream)
    return Errno(EISCONN);
  return at->send(caller, side, out, dont_wait(out.flags), send_deadline(),
                  out.sender ? *out.sender : ids_of(caller));
}

ErrnoOr<Socket::Incoming> StreamSocket::receive(Caller& caller, std::span<std::byte> to,
                                                int flags) {
  if ((flags & MSG_ERRQUEUE) != 0) return Errno(EAGAIN);
  if ((flags & MSG_OOB) != 0) return Errno(EINVAL);
  int side = 0;
  const std::shared_ptr<Connection> at = connection(&side);
  if (!at) {
    std::lock_guard lock(mutex_);
    if (const int error = std::exchange(error_, 0); error != 0) return Errno(error);
    if (kind_ == Connection::Kind::kTcp) return Errno(ENOTCONN);
    return Errno(kind_ == Connection::Kind::kUnixStream ? EINVAL : ENOTCONN);
  }
  return at->receive(caller, side, to,
                     {flags, dont_wait(flags), passes_credentials(),
                      static_cast<size_t>(low_water_.load()), receive_deadline()});
}

void StreamSocket::unread(std::span<const std::byte> bytes, const PeerIds& sender) {
  int side = 0;
  if (const std::shared_ptr<Connection> at = connection(&side)) at->put_back(side, bytes, sender);
}

Errno StreamSocket::shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  int side = 0;
  if (const std::shared_ptr<Connection> at = connection(&side)) {
    at->shut_down(side, how);
    return kOk;
  }
  {
    std::lock_guard lock(mutex_);
    if (state_ != State::kListening) return kind_ == Connection::Kind::kTcp ? Errno(ENOTCONN) : kOk;
    if (how != SHUT_WR) shut_early_ = 1;
  }
  queue_->wake_all();
  room_.wake_all();
  return kOk;
}

ErrnoOr<SocketAddress> StreamSocket::name() {
  std::lock_guard lock(mutex_);
  return name_ ? *name_ : unnamed();
}

ErrnoOr<SocketAddress> StreamSocket::peer_name() {
  int side = 0;
  const std::shared_ptr<Connection> at = connection(&side);
  if (!at) return Errno(ENOTCONN);
  std::lock_guard lock(at->mutex);
  if (kind_ == Connection::Kind::kTcp && at->sides[side].reset) return Errno(ENOTCONN);
  return at->sides[1 - side].name;
}

Errno StreamSocket::set_option(Caller& caller, int level, int option,
                               std::span<const std::byte> value) {
  GUEST_TRY(Socket::set_option(caller, level, option, value));
  if (level != SOL_SOCKET) return kOk;
  if (option == SO_SNDBUF || option == SO_SNDBUFFORCE) send_sized_ = true;
  if (option == SO_RCVBUF || option == SO_RCVBUFFORCE) receive_sized_ = true;
  int side = 0;
  if (const std::shared_ptr<Connection> at = connection(&side)) {
    std::lock_guard lock(at->mutex);
    size(*at, side);
    at->sides[side].passes = passes_credentials();
  }
  return kOk;
}

void StreamSocket::size(Connection& at, int side) const {
  // Linux tunes TCP's buffers that nobody set; both ends' make one here. unix(7) knows the
  // sender's.
  constexpr size_t kTuned = size_t{256} << 10;
  const bool tcp = kind_ == Connection::Kind::kTcp;
  Connection::Side& mine = at.sides[side];
  Connection::Side& peers = at.sides[1 - side];
  peers.sender_room = tcp && !send_sized_ ? kTuned : static_cast<size_t>(send_buffer_.load());
  mine.receiver_room = !tcp             ? 0
                       : receive_sized_ ? static_cast<size_t>(receive_buffer_.load())
                                        : kTuned;
  if (tcp && peers.receiver_room == 0) peers.receiver_room = kTuned;  // not accepted yet
  for (Connection::Side& one : at.sides) one.capacity = one.sender_room + one.receiver_room;
}

size_t StreamSocket::longest() const {
  return kind_ == Connection::Kind::kUnixPacket ? static_cast<size_t>(send_buffer_.load()) : 0;
}

uint32_t StreamSocket::ready(uint32_t) {
  int side = 0;
  if (const std::shared_ptr<Connection> at = connection(&side)) return at->ready(side);
  std::lock_guard lock(mutex_);
  const uint32_t wide = kind_ == Connection::Kind::kTcp ? 0 : POLLWRBAND;
  if (state_ == State::kListening) {
    if (shut_early_ != 0) return POLLIN | POLLRDNORM | POLLRDHUP | POLLHUP;
    return backlog_.empty() ? 0 : POLLIN | POLLRDNORM;
  }
  if (state_ == State::kConnecting)
    return error_ != 0 ? POLLIN | POLLRDNORM | POLLRDHUP | POLLOUT | POLLWRNORM | POLLERR | POLLHUP
                       : 0;
  return POLLOUT | POLLWRNORM | POLLHUP | wide |
         (error_ != 0 ? POLLERR | POLLIN | POLLRDNORM | POLLRDHUP : 0);
}

void StreamSocket::drop_received() {
  int side = 0;
  const std::shared_ptr<Connection> at = connection(&side);
  if (!at) return stop_listening();  // nobody will accept what waits there
  std::vector<FilePtr> files;
  {
    std::lock_guard lock(at->mutex);
    Inbox& inbox = at->sides[side].inbox;
    while (!inbox.empty()) {
      Segment first = inbox.pop();
      std::ranges::move(first.files, std::back_inserter(files));
    }
  }
  bury(std::move(files));
}

int StreamSocket::take_error() {
  int side = 0;
  if (const std::shared_ptr<Connection> at = connection(&side)) {
    std::lock_guard lock(at->mutex);
    return std::exchange(at->sides[side].error, 0);
  }
  std::lock_guard lock(mutex_);
  const int error = std::exchange(error_, 0);
  if (error != 0 && state_ == State::kConnecting) state_ = State::kNew;
  return error;
}

bool StreamSocket::is_listening() {
  std::lock_guard lock(mutex_);
  return state_ == State::kListening;
}

ErrnoOr<PeerIds> StreamSocket::peer_ids() {
  if (kind_ == Connection::Kind::kTcp) return PeerIds{0, ~0U, ~0U};
  int side = 0;
  if (const std::shared_ptr<Connection> at = connection(&side)) {
    std::lock_guard lock(at->mutex);
    return at->sides[1 - side].ids;
  }
  std::lock_guard lock(mutex_);
  return state_ == State::kListening ? listener_ids_ : PeerIds{0, ~0U, ~0U};
}

ErrnoOr<size_t> StreamSocket::readable_bytes() {
  int side = 0;
  const std::shared_ptr<Connection> at = connection(&side);
  if (!at) {
    std::lock_guard lock(mutex_);
    if (state_ == State::kListening) return Errno(EINVAL);
    return size_t{0};
  }
  std::lock_guard lock(at->mutex);
  Inbox& inbox = at->sides[side].inbox;
  return inbox.bytes();
}

size_t StreamSocket::unread_by_peer() {
  int side = 0;
  const std::shared_ptr<Connection> at = connection(&side);
  if (!at || kind_ == Connection::Kind::kTcp) return 0;  // loopback is acknowledged at once
  std::lock_guard lock(at->mutex);
  return at->sides[1 - side].inbox.bytes();
}

}  // namespace fluyt::guest
