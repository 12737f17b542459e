#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "streaming/loop.h"
#include "sys/fd.h"

namespace fluyt::streaming {

/// Two stream sockets that are not connected and do not block. Where the kernel has no IPv6, `ip6`
/// is not valid.
struct DialSockets {
  sys::Fd ip4;
  sys::Fd ip6;
};
/// Makes them in the network namespace whose file is `netns` (empty: ours), where they stay from
/// whichever thread they are used; only a thread made for it ever enters the namespace. Any thread.
Result<DialSockets> open_dial_sockets(const std::string& netns);

/// Connects to `port` of 127.0.0.1, then of ::1, on the loop: nobody waits for a server that does
/// not answer but who asked for it.
class Dial {
 public:
  static constexpr int64_t kConnectMs = 5'000;  // of both together
  /// `done` is called once, on the loop and never from within begin(), with the connected socket;
  /// where both fail, with what IPv4 said. kDeadlineExceeded: `ms` have passed. It may destroy the
  /// dial; once that is destroyed, nothing is called any more.
  using Done = std::function<void(Result<sys::Fd>)>;
  static std::unique_ptr<Dial> begin(Loop& loop, DialSockets sockets, uint16_t port, Done done,
                                     int64_t ms = kConnectMs);

 private:
  Dial(Loop& loop, DialSockets sockets, uint16_t port, Done done)
      : loop_(loop), sockets_(std::move(sockets)), port_(port), done_(std::move(done)) {}
  void connect_ip4();
  void connect_ip6();
  using Refused = std::function<void(Error)>;
  void connect(sys::Fd socket, int family, Refused refused);
  void look(const std::string& call, const Refused& refused);
  void end(Result<sys::Fd> result);

  Loop& loop_;
  DialSockets sockets_;
  const uint16_t port_;
  Done done_;
  std::unique_ptr<Loop::Watch> watch_;  // of the socket that is connecting
  std::unique_ptr<Loop::Timer> late_;
  std::optional<Error> of_ip4_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace fluyt::streaming
