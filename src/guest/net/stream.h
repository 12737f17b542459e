#pragma once

#include <deque>
#include <memory>

#include "guest/net/socket.h"

namespace fluyt::guest {

/// Two ends and what is on its way between them: unix(7) streams and packets, and TCP, whose
/// loopback needs no segments, only their consequences.
class Connection {
 public:
  enum class Kind : uint8_t { kUnixStream, kUnixPacket, kTcp };
  struct Side {
    explicit Side(std::shared_ptr<Network> network) : inbox(std::move(network)) {}
    Inbox inbox;  // what this side receives
    std::shared_ptr<WaitQueue> queue = std::make_shared<WaitQueue>();
    SocketAddress name;
    PeerIds ids;
    size_t capacity = 0;     // of the inbox
    size_t sender_room = 0;  // its parts
    size_t receiver_room = 0;
    bool open = true;          // a socket, or the queue of a listener, holds it
    bool passes = false;       // SO_PASSCRED
    bool receives = true;      // not shut down
    bool sends = true;         // not shut down
    bool reset = false;        // TCP: the peer is gone and has said so
    bool lacked_room = false;  // TCP: somebody was told that this side cannot send now
    int error = 0;             // told once
  };

  Connection(Kind of, const std::shared_ptr<Network>& network)
      : kind(of), sides{Side(network), Side(network)} {}

  ErrnoOr<size_t> send(Caller& caller, int side, const Socket::Outgoing& out, bool dont_wait,
                       const Deadline& deadline, const PeerIds& sender);
  struct Reading {
    int flags = 0;
    bool dont_wait = false;
    bool with_sender = false;
    size_t low_water = 1;
    Deadline deadline;
  };
  ErrnoOr<Socket::Incoming> receive(Caller& caller, int side, std::span<std::byte> to,
                                    const Reading& how);
  void put_back(int side, std::span<const std::byte> bytes, const PeerIds& sender);
  void shut_down(int side, int how);  // SHUT_*
  /// Nobody holds the side any more. `abort`: TCP resets, whatever is in its queues.
  void close(int side, bool abort);
  uint32_t ready(int side);

  const Kind kind;
  std::mutex mutex;
  Side sides[2];

 private:
  bool is_stream() const { return kind != Kind::kUnixPacket; }
  /// How the send ends when it must not go on; kOk: it may.
  Errno may_send(int side);
  bool ended(int side);
  bool take_bytes(Side& me, std::span<std::byte> to, const Reading& how, Socket::Incoming& in);
};

/// A socket with connections: new, bound, listening, connecting or connected.
class StreamSocket : public Socket {
 public:
  StreamSocket(std::shared_ptr<Network> network, int family, int type, int protocol, int flags,
               Connection::Kind kind);
  ~StreamSocket() override;

  Errno listen(Caller& caller, int backlog) override;
  ErrnoOr<Accepted> accept(Caller& caller, int flags) override;
  ErrnoOr<size_t> send(Caller& caller, const Places* places, const Outgoing& out) override;
  ErrnoOr<Incoming> receive(Caller& caller, std::span<std::byte> to, int flags) override;
  bool takes_back() override { return longest() == 0; }
  void unread(std::span<const std::byte> bytes, const PeerIds& sender) override;
  Errno shutdown(int how) override;
  ErrnoOr<SocketAddress> name() override;
  ErrnoOr<SocketAddress> peer_name() override;
  size_t longest() const override;
  uint32_t ready(uint32_t wanted) override;
  void drop_received() override;
  Errno set_option(Caller& caller, int level, int option,
                   std::span<const std::byte> value) override;

  /// Becomes one end.
  void adopt(std::shared_ptr<Connection> connection, int side);

 protected:
  enum class State : uint8_t { kNew, kListening, kConnecting, kConnected };
  /// kOk; EAGAIN: no room, and it was not taken; ECONNREFUSED: it does not listen.
  Errno offer(std::shared_ptr<Connection> connection);
  virtual std::shared_ptr<StreamSocket> make_accepted(int flags) = 0;
  virtual Errno prepare_listen(Caller& caller, int backlog) = 0;
  /// One that came from outside the sandbox, if any.
  virtual ErrnoOr<Accepted> accept_outside(int /*flags*/) { return Errno(EAGAIN); }
  /// There is room in the queue of connections.
  virtual void room_made() {}
  virtual SocketAddress unnamed() const = 0;

  int take_error() override;
  bool is_listening() override;
  ErrnoOr<PeerIds> peer_ids() override;
  ErrnoOr<size_t> readable_bytes() override;
  size_t unread_by_peer() override;
  std::shared_ptr<Connection> connection(int* side);
  void stop_listening();
  /// Tells a connection how much may wait, as our end has it. Under its lock.
  void size(Connection& at, int side) const;

  const Connection::Kind kind_;
  std::atomic<bool> send_sized_{false};     // SO_SNDBUF was set
  std::atomic<bool> receive_sized_{false};  // SO_RCVBUF was set
  std::mutex mutex_;
  // Under it:
  State state_ = State::kNew;
  std::optional<SocketAddress> name_;
  std::shared_ptr<Connection> connection_;
  int side_ = 0;
  size_t backlog_limit_ = 0;
  std::deque<std::shared_ptr<Connection>> backlog_;
  PeerIds listener_ids_;
  int error_ = 0;       // of a connection that did not come about
  int shut_early_ = 0;  // listeners: SHUT_RD was called
  WaitQueue room_;      // of the backlog
};

}  // namespace fluyt::guest
