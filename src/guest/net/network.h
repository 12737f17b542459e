#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
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

/// Which socket has which port. One a protocol.
class Ports {
 public:
  struct Binding {
    Endpoint at;
    bool v6_only = false;
    bool v6 = false;
    bool reuse_address = false;
    bool reuse_port = false;
    bool listening = false;
    uint32_t uid = 0;
    Socket* socket = nullptr;
    std::weak_ptr<Socket> weak;
  };
  /// Chooses a port when it is 0. EADDRINUSE.
  Errno bind(Binding& wanted);
  void release(const Socket& socket);
  /// A socket that is to listen shares its address with no other but by SO_REUSEPORT.
  Errno listen(const Socket& socket);
  void set_address(const Socket& socket, const Endpoint& at);
  /// Who gets what is sent to `to`: the closest binding; among equals they take turns.
  std::shared_ptr<Socket> find(const Endpoint& to, bool listening);
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
  // Before the first program, and never again.
  std::vector<Interface> interfaces;
  std::vector<Route> routes;
  std::unique_ptr<Outside> outside;  // null: there is loopback alone
  /// The loopback of the host's namespace is ours too: what listens on one of the two can be
  /// reached from the other. For a pod, whose containers each have a network of this kind.
  bool shares_loopback = false;
  bool has_address(const Endpoint& at) const;

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
