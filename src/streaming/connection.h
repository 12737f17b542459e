#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "streaming/loop.h"
#include "streaming/tls.h"
#include "streaming/upgrade.h"
#include "streaming/wire.h"
#include "sys/fd.h"

/// The door: takes TCP connections, speaks TLS where it is asked for, reads one request each and
/// changes to what was agreed.
namespace fluyt::streaming {

/// What becomes of an agreed upgrade: the handler of the wire, or nothing for a token that is not
/// known. On the loop's thread.
class Admission {
 public:
  virtual ~Admission() = default;
  /// Checks the token, which is used up by that. `open` makes the handler when the wire is there.
  using Open = std::function<std::shared_ptr<Wire::Handler>(std::shared_ptr<Wire>)>;
  virtual Open admit(const Upgrade& upgrade) = 0;
};

struct DoorOptions {
  std::string address;
  uint16_t port = 0;
  size_t max_connections = 1024;  // that have been upgraded
  /// Those that have not: who reaches the port and asks for nothing shuts nobody out, as the oldest
  /// makes room for one more.
  size_t max_guests = 128;
  int64_t request_ms = 10'000;  // for the handshake and the head of the request
  WireLimits limits;
};

class Door {
 public:
  /// Listens; any thread. `tls` may be null: no TLS. Both are borrowed.
  static Result<std::unique_ptr<Door>> open(Loop& loop, const DoorOptions& options, Tls* tls,
                                            Admission& admission, Logger& logger);
  virtual ~Door() = default;
  virtual uint16_t port() const = 0;
  /// Begins to take connections. This and what follows: on the loop's thread, or before it runs.
  virtual void start() = 0;
  /// Serves a connection that was made elsewhere, a stream socket of any family.
  virtual void take(sys::Fd connection) = 0;
  /// Other limits and another certificate for the connections that come after it; address and port
  /// stay.
  virtual void change(const DoorOptions& options, Tls* tls) = 0;
  /// Closes the listener and nothing else: connections go on. The door itself stays until what was
  /// posted before is done.
  virtual void retire() = 0;
  virtual size_t connections() const = 0;  // of both kinds
  /// Closes the listener and ends every connection.
  virtual void close() = 0;
};

}  // namespace fluyt::streaming
