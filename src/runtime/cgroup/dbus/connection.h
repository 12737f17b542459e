#pragma once

#include <deque>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/time.h"
#include "runtime/cgroup/dbus/message.h"
#include "sys/fd.h"

namespace fluyt::dbus {

struct Endpoint {
  std::string path;  // of a unix socket
  enum class Sort {
    kPeer,  // the other end is who we talk to
    kBus,   // a bus: Hello comes first, and every call names its destination
  };
  Sort sort = Sort::kPeer;
  enum class Identity {
    kByNumber,  // our effective uid
    kBySocket,  // what the other end sees of us: in a user namespace our number is another's there
  };
  Identity identity = Identity::kByNumber;
};

/// One connection, one thread. Calls wait for their replies; signals of the kind that match() named
/// and that come meanwhile are kept, the last kMaxSignals of them. After an error of the connection
/// (not of a call) nothing more can be done with it.
class Connection {
 public:
  static constexpr size_t kMaxSignals = 256;

  /// Connects and authenticates as the effective user (EXTERNAL). kNotFound or kUnavailable when
  /// nobody listens.
  static Result<Connection> open(const Endpoint& endpoint, Deadline deadline);

  /// Sends without waiting: the serial is what reply() wants.
  Result<uint32_t> send(Message call);
  /// The answer to a call. An error that the other end sent has the code that its name means, and
  /// its name in front of its text.
  Result<Message> reply(uint32_t serial, Deadline deadline);
  Result<Message> call(Message call, Deadline deadline);
  /// Which signals to keep from now on; a bus is asked to send them.
  Result<> match(std::string interface, std::string member, Deadline deadline);
  /// The oldest signal that was kept, or else the next one that matches.
  Result<Message> next_signal(Deadline deadline);

 private:
  Connection(sys::Fd socket, Endpoint endpoint)
      : socket_(std::move(socket)), endpoint_(std::move(endpoint)) {}
  Result<> authenticate(Deadline deadline);
  Result<std::string> next_line(Deadline deadline);
  Result<> fill(Deadline deadline);
  Result<Message> next(Deadline deadline);
  void keep(Message message);

  sys::Fd socket_;
  Endpoint endpoint_;
  std::string input_;
  std::string interface_, member_;  // of the signals to keep
  std::deque<Message> signals_;
  std::deque<Message> replies_;  // to calls sent ahead
  uint32_t last_serial_ = 0;
};

}  // namespace fluyt::dbus
