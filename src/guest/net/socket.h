#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "guest/net/address.h"
#include "guest/net/inbox.h"
#include "guest/net/network.h"
#include "guest/net/packet.h"
#include "guest/vfs/file.h"
#include "guest/vfs/tree.h"

namespace fluyt::guest {

/// Where path names of unix(7) sockets are looked up.
struct Places {
  Tree& tree;
  WalkFrom from;
  uint32_t umask = 0;
};

PeerIds ids_of(const Caller& caller);

/// A socket of any family. Calls that a family lacks say EOPNOTSUPP.
class Socket : public File, public std::enable_shared_from_this<Socket> {
 public:
  Socket(std::shared_ptr<Network> network, int family, int type, int protocol, int flags);
  ~Socket() override;

  int family() const { return family_; }
  int type() const { return type_; }
  int protocol() const { return protocol_; }
  uint64_t number() const { return number_; }

  struct Outgoing {
    std::span<const std::byte> data;
    const SocketAddress* to = nullptr;
    std::vector<FilePtr> files;
    std::optional<PeerIds> sender;            // SCM_CREDENTIALS, checked
    std::span<const ControlMessage> control;  // of the levels below; not checked
    int flags = 0;                            // MSG_*
  };
  struct Incoming {
    size_t count = 0;  // bytes stored
    size_t whole = 0;  // bytes that the message had
    SocketAddress from;
    std::vector<FilePtr> files;
    std::optional<PeerIds> sender;
    std::vector<ControlMessage> control;
    int flags = 0;  // MSG_TRUNC, MSG_EOR
  };
  struct Accepted {
    std::shared_ptr<Socket> socket;
    SocketAddress peer;
  };

  virtual Errno bind(Caller& caller, const Places& places, const SocketAddress& address) = 0;
  virtual Errno connect(Caller& caller, const Places& places, const SocketAddress& address) = 0;
  virtual Errno listen(Caller& caller, int backlog);
  virtual ErrnoOr<Accepted> accept(Caller& caller, int flags);
  /// Blocks unless O_NONBLOCK or MSG_DONTWAIT. EPIPE: the caller owes itself SIGPIPE.
  virtual ErrnoOr<size_t> send(Caller& caller, const Places* places, const Outgoing& out) = 0;
  virtual ErrnoOr<Incoming> receive(Caller& caller, std::span<std::byte> to, int flags) = 0;
  /// Bytes that were received and could not be stored go back, where `takes_back` says so.
  virtual void unread(std::span<const std::byte> /*bytes*/, const PeerIds& /*sender*/) {}
  virtual Errno shutdown(int how) = 0;
  virtual ErrnoOr<SocketAddress> name() = 0;
  virtual ErrnoOr<SocketAddress> peer_name() = 0;
  /// The longest message; 0: a stream has none.
  virtual size_t longest() const { return 0; }
  virtual Errno set_option(Caller& caller, int level, int option, std::span<const std::byte> value);
  virtual ErrnoOr<std::vector<std::byte>> get_option(Caller& caller, int level, int option);
  /// Its queue, for those who look for what is unreachable; null: it has none yet.
  const Inbox* inbox() const { return inbox_.load(); }
  virtual void drop_received() {}
  void collect_garbage() { network_->rights.collect(); }
  /// A line of /proc/net/*, for those that have one.
  struct Row {
    Endpoint local;
    Endpoint peer;
    int state = 7;
    size_t sending = 0, waiting = 0;
    std::string name;  // unix(7), with '@' for a zero
    bool listening = false, connected = false;
  };
  virtual Row row() { return {}; }

  ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* offset) override;
  ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t* offset) override;
  ErrnoOr<uint64_t> ioctl(Caller& caller, uint32_t request, uint64_t argument) override;
  WaitQueue* queue() override { return queue_.get(); }
  std::string describe() const override { return "socket:[" + std::to_string(number_) + "]"; }

  bool passes_credentials() const { return pass_credentials_; }

 protected:
  bool dont_wait(int flags) const;
  /// SO_TIMESTAMP and its kin are on.
  bool wants_time() const { return stamp_.load() != 0; }
  /// When a message came, as it was asked for; 0: now.
  void tell_time(int64_t came_ns, std::vector<ControlMessage>& out) const;
  Deadline receive_deadline() const { return deadline(receive_timeout_ns_); }
  Deadline send_deadline() const { return deadline(send_timeout_ns_); }
  /// What a wait that did not end well says (socket(7), SO_RCVTIMEO).
  static Errno waited(Errno error, const Deadline& deadline);
  /// SO_ERROR: the error that is taken by looking at it.
  virtual int take_error() { return 0; }
  virtual bool is_listening() { return false; }
  virtual ErrnoOr<PeerIds> peer_ids() { return PeerIds{0, ~0U, ~0U}; }
  /// Bytes to read and bytes not yet read by the peer.
  virtual ErrnoOr<size_t> readable_bytes() { return size_t{0}; }
  virtual size_t unread_by_peer() { return 0; }

  /// Options that tune what a loopback has not: kept, and shown again.
  ErrnoOr<bool> keep_option(std::span<const OptionRule> table, int level, int option,
                            std::span<const std::byte> value);
  std::optional<int> kept_option(std::span<const OptionRule> table, int level, int option);
  bool keeps_alive();  // SO_KEEPALIVE
  static ErrnoOr<int> as_number(std::span<const std::byte> value);
  static std::vector<std::byte> from_number(int value);

  const std::shared_ptr<Network> network_;
  /// Shared with connections, which wake it, and may outlive it.
  std::shared_ptr<WaitQueue> queue_ = std::make_shared<WaitQueue>();
  std::atomic<const Inbox*> inbox_{nullptr};

  std::atomic<int> send_buffer_{212992};
  std::atomic<int> receive_buffer_{212992};
  std::atomic<int> low_water_{1};
  std::atomic<bool> reuse_address_{false};
  std::atomic<bool> reuse_port_{false};
  std::atomic<bool> broadcast_{false};
  std::atomic<bool> pass_credentials_{false};
  std::atomic<bool> tells_drops_{false};  // SO_RXQ_OVFL
  std::atomic<bool> linger_{false};
  std::atomic<int> linger_s_{0};

 private:
  static Deadline deadline(int64_t timeout_ns);
  const int family_;
  const int type_;
  const int protocol_;
  const uint64_t number_;
  std::atomic<int> stamp_{0};                   // SO_TIMESTAMP..., which of them
  std::atomic<int64_t> receive_timeout_ns_{0};  // 0: for ever
  std::atomic<int64_t> send_timeout_ns_{0};
  std::mutex options_mutex_;
  std::map<std::pair<int, int>, int> options_;
};
using SocketPtr = std::shared_ptr<Socket>;

/// socket(2). `type` is without flags; `flags` are O_*.
ErrnoOr<SocketPtr> make_socket(const std::shared_ptr<Network>& network, const Caller& caller,
                               int family, int type, int protocol, int flags);
/// socketpair(2).
struct SocketPair {
  SocketPtr first;
  SocketPtr second;
};
ErrnoOr<SocketPair> make_socket_pair(const std::shared_ptr<Network>& network, Caller& caller,
                                     int family, int type, int protocol, int flags);

}  // namespace fluyt::guest
