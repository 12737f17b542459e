#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/net/address.h"
#include "guest/net/interfaces.h"
#include "guest/vfs/file.h"

namespace fluyt::guest {

class Inbox;
class Outside;
class Socket;

/// Bytes that wait in sockets, of the whole sandbox.
class Budget {
 public:
  /// ENOBUFS when the sandbox has too much waiting.
  Errno charge(size_t bytes);
  void give_back(size_t bytes) { used_.fetch_sub(bytes); }

 private:
  static constexpr size_t kMost = size_t{256} << 20;
  std::atomic<size_t> used_{0};
};

/// Files on their way between sockets (SCM_RIGHTS). Sockets that nobody can reach any more, because
/// only their own queues hold them, are found by who holds whom.
class Rights {
 public:
  /// ETOOMANYREFS when too many are under way. May collect what is unreachable.
  Errno attach(const Inbox& holder, const std::vector<FilePtr>& files);
  void detach(const Inbox& holder, const std::vector<FilePtr>& files);
  size_t in_flight();
  /// Empties the queues of what nobody can reach.
  void collect();

 private:
  static constexpr size_t kMost = 16384;
  std::vector<std::shared_ptr<Socket>> find_unreachable();
  std::mutex mutex_;
  size_t count_ = 0;
  size_t collect_at_ = 64;
  std::unordered_map<Socket*, std::vector<const Inbox*>>
      holders_;  // a holder each time it holds it
};

/// Multicast groups that sockets of the sandbox have joined, each on a device.
class Groups {
 public:
  void join(const Endpoint& group, int device);
  void leave(const Endpoint& group, int device);
  /// Whether what is sent to the group is taken in at all; all hosts are of some.
  bool joined(const Endpoint& group, int device);

 private:
  std::mutex mutex_;
  std::map<std::pair<std::array<uint8_t, 16>, int>, size_t> counts_;
};

/// Which socket has which port. One a protocol.
class Ports {
 public:
  struct Binding {
    Endpoint at;
    bool v6_only = false;
    bool v6 = false;
    bool reuse_address = false;
    bool reuse_port = false;
    bool balances = false;  // SO_REUSEPORT: those who share take turns
    bool listening = false;
    uint32_t uid = 0;
    std::optional<Endpoint> peer;  // the only one that it hears
    Socket* socket = nullptr;
    std::weak_ptr<Socket> weak;
  };
  /// Chooses a port when it is 0. EADDRINUSE.
  Errno bind(Binding& wanted);
  void release(const Socket& socket);
  /// A socket that is to listen shares its address with no other but by SO_REUSEPORT.
  Errno listen(const Socket& socket);
  void set_address(const Socket& socket, const Endpoint& at);
  void set_peer(const Socket& socket, const std::optional<Endpoint>& peer);
  /// Who gets what is sent to `to`: the closest binding. Among equals that balance, listeners take
  /// turns, and others get what is of the same sender; else it is the one that was bound last.
  std::shared_ptr<Socket> find(const Endpoint& to, bool listening, const Endpoint* from = nullptr);
  /// All who may get what is sent to a group.
  std::vector<std::shared_ptr<Socket>> find_group(const Endpoint& to, const Endpoint& from);
  std::vector<Binding> all();

 private:
  static bool conflict(const Binding& a, const Binding& b);
  std::mutex mutex_;
  std::multimap<uint16_t, Binding> by_port_;
  uint32_t next_ = 0;
  size_t turn_ = 0;
};

/// What the sockets of a network namespace share.
class Network {
 public:
  Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  ~Network();

  Budget budget;
  Rights rights;
  Ports tcp;
  Ports udp;
  Ports udp_lite;  // udplite(7): within the sandbox alone
  Ports echo;      // ICMP: identifiers in place of ports
  Ports echo6;
  Groups groups;
  // Before the first program, and never again.
  std::vector<Interface> interfaces;
  std::vector<Route> routes;
  std::unique_ptr<Outside> outside;  // null: there is loopback alone
  /// The loopback of the host's namespace is ours too: what listens on one of the two can be
  /// reached from the other. For a pod, whose containers each have a network of this kind.
  bool shares_loopback = false;
  bool has_address(const Endpoint& at) const;
  const Interface* device(int index) const;
  /// That has the address; all of 127.0.0.0/8 is the loopback's.
  const Interface* device_of(const Endpoint& address) const;
  /// By which `to` is reached, if not by loopback; null: by none.
  const Interface* route_to(const Endpoint& to) const;

  // Abstract names of unix(7).
  Errno bind_abstract(const std::string& name, const std::shared_ptr<Socket>& socket);
  std::shared_ptr<Socket> find_abstract(const std::string& name);
  void release_abstract(const std::string& name);
  /// A free one of five hexadecimal digits.
  std::string new_abstract(const std::shared_ptr<Socket>& socket);

  // Every socket, for /proc/net.
  void enter(Socket& socket);
  void leave(Socket& socket);
  std::vector<std::shared_ptr<Socket>> sockets();
  size_t count();

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Socket>> abstract_;
  std::map<uint64_t, Socket*> sockets_;
  uint32_t next_abstract_ = 0;
};

/// Lets go of files without recursing: a socket's queue may hold a socket whose queue holds one,
/// and so on.
void bury(std::vector<FilePtr> files);

}  // namespace fluyt::guest
