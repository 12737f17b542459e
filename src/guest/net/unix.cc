#include "guest/net/unix.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <utility>

#include "guest/net/datagram.h"
#include "guest/net/stream.h"

namespace fluyt::guest {
namespace {

/// What hangs on the file of a path that is bound: who listens there.
struct BoundPath {
  std::weak_ptr<Socket> socket;
};

/// The name of a socket: kept as long as the socket is, so that its path stays known.
class Name {
 public:
  Errno bind(Network& network, const Places& places, const SocketPtr& socket, UnixName name) {
    if (bound_) {
      const bool taken = !name.text.empty() && !name.abstract() &&
                         places.tree.find(places.from, name.text, LastLink::kKeep).ok();
      return Errno(taken ? EADDRINUSE : EINVAL);
    }
    if (name.text.empty()) {
      name.text = network.new_abstract(socket);
    } else if (name.abstract()) {
      GUEST_TRY(network.bind_abstract(name.text, socket));
    } else {
      const Errno made =
          places.tree.make(places.from, name.text, S_IFSOCK | (0777 & ~places.umask), 0);
      if (!made.ok()) return made.value() == EEXIST ? Errno(EADDRINUSE) : made;
      place_ = GUEST_TRY(places.tree.find(places.from, name.text, LastLink::kKeep));
      auto here = std::make_shared<BoundPath>();
      here->socket = socket;
      FileIdentity& file = place_->inode->identity();
      std::lock_guard lock(file.attachment_lock);
      file.attachment = std::move(here);
    }
    name_ = std::move(name);
    bound_ = true;
    return kOk;
  }
  void release(Network& network) {
    if (bound_ && name_.abstract()) network.release_abstract(name_.text);
  }
  bool bound() const { return bound_; }
  const UnixName& name() const { return name_; }

 private:
  bool bound_ = false;
  UnixName name_;
  DentryPtr place_;
};

/// Who is bound to an address. ECONNREFUSED, EACCES and what the walk says.
ErrnoOr<SocketPtr> find_bound(Network& network, const Places& places,
                              const SocketAddress& address) {
  const UnixName name = GUEST_TRY(parse_unix(address));
  if (name.text.empty()) return Errno(EINVAL);
  SocketPtr found;
  if (name.abstract()) {
    found = network.find_abstract(name.text);
  } else {
    const DentryPtr at = GUEST_TRY(places.tree.find(places.from, name.text, LastLink::kFollow));
    const Stat stat = GUEST_TRY(at->inode->stat());
    GUEST_TRY(may_access(places.from.credentials, stat, 2));
    if (at->inode->type() != S_IFSOCK) return Errno(ECONNREFUSED);
    FileIdentity& file = at->inode->identity();
    std::lock_guard lock(file.attachment_lock);
    if (file.attachment)
      found = std::static_pointer_cast<BoundPath>(file.attachment)->socket.lock();
  }
  if (!found) return Errno(ECONNREFUSED);
  return found;
}

Socket::Row row_of(const UnixName& name) {
  Socket::Row row;
  row.name = name.text;
  for (char& byte : row.name)
    if (byte == 0) byte = '@';
  return row;
}

class UnixStream final : public StreamSocket {
 public:
  UnixStream(std::shared_ptr<Network> network, int type, int flags)
      : StreamSocket(
            std::move(network), AF_UNIX, type, 0, flags,
            type == SOCK_STREAM ? Connection::Kind::kUnixStream : Connection::Kind::kUnixPacket) {}
  ~UnixStream() override { bound_.release(*network_); }

  Errno bind(Caller&, const Places& places, const SocketAddress& address) override {
    UnixName name = GUEST_TRY(parse_unix(address));
    std::lock_guard lock(naming_);
    GUEST_TRY(bound_.bind(*network_, places, shared_from_this(), std::move(name)));
    std::lock_guard guard(mutex_);
    name_ = shown(bound_.name());
    return kOk;
  }

  Errno connect(Caller& caller, const Places& places, const SocketAddress& address) override {
    const Deadline deadline = send_deadline();
    if (passes_credentials()) {
      // Credentials come with an address to answer to.
      std::lock_guard lock(naming_);
      if (!bound_.bound()) {
        GUEST_TRY(bound_.bind(*network_, places, shared_from_this(), UnixName{}));
        std::lock_guard guard(mutex_);
        name_ = shown(bound_.name());
      }
    }
    for (;;) {
      const SocketPtr found = GUEST_TRY(find_bound(*network_, places, address));
      if (found->type() != type()) return Errno(EPROTOTYPE);
      auto* listener = static_cast<UnixStream*>(found.get());
      auto made = std::make_shared<Connection>(kind_, network_);
      {
        std::lock_guard lock(mutex_);
        if (state_ == State::kConnected) return Errno(EISCONN);
        if (state_ != State::kNew) return Errno(EINVAL);
        made->sides[0].name = name_ ? *name_ : unnamed();
        made->sides[0].queue = queue_;
      }
      made->sides[0].ids = ids_of(caller);
      made->sides[1].name = GUEST_TRY(listener->name());
      size(*made, 0);
      const Errno offered = listener->offer(made);
      if (offered.ok()) {
        adopt(std::move(made), 0);
        queue_->wake_all();
        return kOk;
      }
      if (offered.value() != EAGAIN || nonblocking()) return offered;
      const Errno waiting = wait_until(listener->room_, caller.sleeper, deadline, [listener] {
        std::lock_guard lock(listener->mutex_);
        return listener->state_ != State::kListening || listener->shut_early_ != 0 ||
               listener->backlog_.size() < listener->backlog_limit_;
      });
      if (!waiting.ok()) return waited(waiting, deadline);
    }
  }

  Row row() override {
    std::lock_guard lock(naming_);
    Row row = row_of(bound_.name());
    std::lock_guard guard(mutex_);
    row.listening = state_ == State::kListening;
    row.connected = state_ == State::kConnected;
    return row;
  }

 protected:
  std::shared_ptr<StreamSocket> make_accepted(int flags) override {
    auto made = std::make_shared<UnixStream>(network_, type(), flags);
    made->pass_credentials_ = pass_credentials_.load();
    return made;
  }
  Errno prepare_listen(Caller&, int) override {
    std::lock_guard lock(naming_);
    return bound_.bound() ? kOk : Errno(EINVAL);
  }
  SocketAddress unnamed() const override { return shown(UnixName{}); }

 private:
  std::mutex naming_;
  Name bound_;
};

class UnixDatagram final : public DatagramSocket {
 public:
  UnixDatagram(std::shared_ptr<Network> network, int flags)
      : DatagramSocket(std::move(network), AF_UNIX, SOCK_DGRAM, 0, flags) {}
  ~UnixDatagram() override {
    bound_.release(*network_);
    // A connected peer learns of it when it looks; who waits for room waits in vain.
    room_made();
  }

  Errno bind(Caller&, const Places& places, const SocketAddress& address) override {
    UnixName name = GUEST_TRY(parse_unix(address));
    std::lock_guard lock(naming_);
    return bound_.bind(*network_, places, shared_from_this(), std::move(name));
  }

  Errno connect(Caller&, const Places& places, const SocketAddress& address) override {
    if (address.family() == AF_UNSPEC && address.length >= 2) {
      std::lock_guard lock(mutex_);
      peer_.reset();
      return kOk;
    }
    const SocketPtr found = GUEST_TRY(find_bound(*network_, places, address));
    if (found->type() != SOCK_DGRAM) return Errno(EPROTOTYPE);
    auto other = std::static_pointer_cast<UnixDatagram>(found);
    if (!other->takes_from(*this)) return Errno(EPERM);
    set_peer(other);
    return kOk;
  }
  void set_peer(const std::shared_ptr<UnixDatagram>& peer) {
    {
      std::lock_guard lock(mutex_);
      peer_ = peer;
      connected_ = true;
    }
    queue_->wake_all();
  }

  ErrnoOr<size_t> send(Caller& caller, const Places* places, const Outgoing& out) override {
    if ((out.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
    if (out.data.size() > longest()) return Errno(EMSGSIZE);
    std::shared_ptr<UnixDatagram> to;
    if (out.to != nullptr && out.to->length != 0) {
      if (places == nullptr) return Errno(EINVAL);
      const SocketPtr found = GUEST_TRY(find_bound(*network_, *places, *out.to));
      if (found->type() != SOCK_DGRAM) return Errno(EPROTOTYPE);
      to = std::static_pointer_cast<UnixDatagram>(found);
      if (!to->takes_from(*this)) return Errno(EPERM);
    } else {
      std::lock_guard lock(mutex_);
      if (no_sending_) return Errno(EPIPE);
      to = peer_.lock();
      if (!to) return Errno(std::exchange(connected_, false) ? ECONNREFUSED : ENOTCONN);
    }
    const Deadline deadline = send_deadline();
    SocketAddress own;  // of nothing when there is no name to answer to
    {
      std::lock_guard lock(naming_);
      if (bound_.bound()) own = shown(bound_.name());
    }
    const auto attempt = [&]() -> Errno {
      Segment segment;
      segment.data.assign(out.data.begin(), out.data.end());
      segment.files = out.files;
      segment.sender = out.sender ? *out.sender : ids_of(caller);
      segment.from = own;
      {
        std::lock_guard lock(to->mutex_);
        if (to->no_receiving_) return Errno(EPIPE);
      }
      return to->deliver(std::move(segment), Full::kRefuse);
    };
    Errno done = attempt();
    if (done.value() == EAGAIN && !dont_wait(out.flags)) {
      const Errno waiting = wait_until(to->room_, caller.sleeper, deadline, [&] {
        done = attempt();
        return done.value() != EAGAIN;
      });
      if (!waiting.ok()) return waited(waiting, deadline);
    }
    GUEST_TRY(done);
    return out.data.size();
  }

  Errno shutdown(int how) override {
    if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
    {
      std::lock_guard lock(mutex_);
      if (how != SHUT_WR) no_receiving_ = true;
      if (how != SHUT_RD) no_sending_ = true;
    }
    queue_->wake_all();
    room_made();
    return kOk;
  }
  ErrnoOr<SocketAddress> name() override {
    std::lock_guard lock(naming_);
    return shown(bound_.name());
  }
  ErrnoOr<SocketAddress> peer_name() override {
    std::shared_ptr<UnixDatagram> peer;
    {
      std::lock_guard lock(mutex_);
      peer = peer_.lock();
    }
    if (!peer) return Errno(ENOTCONN);
    return peer->name();
  }
  size_t longest() const override { return static_cast<size_t>(send_buffer_.load()) - 32; }
  Row row() override {
    std::lock_guard lock(naming_);
    return row_of(bound_.name());
  }
  ErrnoOr<PeerIds> peer_ids() override {
    std::lock_guard lock(mutex_);
    return pair_ids_;
  }
  PeerIds pair_ids_{0, ~0U, ~0U};

 protected:
  bool full() const override {
    constexpr size_t kMostMessages = 512;  // net.unix.max_dgram_qlen
    return received_.count() >= kMostMessages ||
           received_.charged() >= static_cast<size_t>(receive_buffer_.load());
  }
  void room_made() override {
    room_.wake_all(POLLOUT | POLLWRNORM | POLLWRBAND);
    std::vector<std::weak_ptr<Socket>> waiting;
    {
      std::lock_guard lock(senders_mutex_);
      waiting.swap(senders_);
    }
    for (const auto& sender : waiting)
      if (const SocketPtr held = sender.lock())
        held->queue()->wake_all(POLLOUT | POLLWRNORM | POLLWRBAND);
  }
  bool can_send() override {
    std::shared_ptr<UnixDatagram> peer;
    {
      std::lock_guard lock(mutex_);
      peer = peer_.lock();
    }
    if (!peer || peer.get() == this) return true;
    {
      // Before the look: who takes a message behind it wakes us.
      std::lock_guard lock(peer->senders_mutex_);
      const std::weak_ptr<Socket> self = weak_from_this();
      std::erase_if(peer->senders_, [&](const std::weak_ptr<Socket>& sender) {
        return sender.expired() || (!sender.owner_before(self) && !self.owner_before(sender));
      });
      peer->senders_.push_back(self);
    }
    std::lock_guard lock(peer->mutex_);
    return !peer->full();
  }

 private:
  /// One that is connected hears its peer alone.
  bool takes_from(const UnixDatagram& other) {
    std::lock_guard lock(mutex_);
    const std::shared_ptr<UnixDatagram> peer = peer_.lock();
    return !peer || peer.get() == &other;
  }
  std::mutex naming_;
  Name bound_;
  // Under mutex_:
  std::weak_ptr<UnixDatagram> peer_;
  bool connected_ = false;
  WaitQueue room_;
  std::mutex senders_mutex_;
  std::vector<std::weak_ptr<Socket>> senders_;  // who polls for room here
};

}  // namespace

ErrnoOr<SocketPtr> make_unix_socket(const std::shared_ptr<Network>& network, int type, int flags) {
  switch (type) {
    case SOCK_STREAM:
    case SOCK_SEQPACKET:
      return SocketPtr(std::make_shared<UnixStream>(network, type, flags));
    case SOCK_DGRAM:
    case SOCK_RAW:  // Linux: the same
      return SocketPtr(std::make_shared<UnixDatagram>(network, flags));
    default:
      return Errno(ESOCKTNOSUPPORT);
  }
}

ErrnoOr<SocketPair> make_unix_pair(const std::shared_ptr<Network>& network, Caller& caller,
                                   int type, int flags) {
  const SocketPtr first = GUEST_TRY(make_unix_socket(network, type, flags));
  const SocketPtr second = GUEST_TRY(make_unix_socket(network, type, flags));
  if (type == SOCK_DGRAM || type == SOCK_RAW) {
    auto a = std::static_pointer_cast<UnixDatagram>(first);
    auto b = std::static_pointer_cast<UnixDatagram>(second);
    a->pair_ids_ = b->pair_ids_ = ids_of(caller);
    a->set_peer(b);
    b->set_peer(a);
    return SocketPair{first, second};
  }
  auto a = std::static_pointer_cast<UnixStream>(first);
  auto b = std::static_pointer_cast<UnixStream>(second);
  auto made = std::make_shared<Connection>(
      type == SOCK_STREAM ? Connection::Kind::kUnixStream : Connection::Kind::kUnixPacket, network);
  for (Connection::Side& side : made->sides) {
    side.name = shown(UnixName{});
    side.ids = ids_of(caller);
  }
  a->adopt(made, 0);
  b->adopt(made, 1);
  return SocketPair{first, second};
}

}  // namespace fluyt::guest
