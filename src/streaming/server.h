#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "streaming/tls.h"
#include "streaming/urls.h"

namespace fluyt::engine {
class Engine;
}

namespace fluyt::streaming {

struct Options {
  std::string address = "127.0.0.1";  // an IP address; beyond loopback only with TLS
  uint16_t port = 0;                  // 0: a free one
  TlsFiles tls;                       // without a certificate: no TLS
  int64_t idle_ms = 4LL * 3600 * 1000;
  int64_t streams_ms = 30'000;  // for a client to make its streams
  size_t max_connections = 1024;
};

/// Refuses what contradicts itself or is not safe, naming the setting.
Result<> check_options(const Options& options);

/// The streaming server: gives out addresses and serves them, on a thread of its own and a bounded
/// number for what blocks. Borrows the engine and the logger.
class Server : public Urls {
 public:
  static Result<std::unique_ptr<Server>> start(const Options& options, engine::Engine& engine,
                                               Logger& logger);
  /// Reads the certificate of `options`, which the server had or not. What it returns puts them in
  /// force, but for address and port, for sessions that begin after it, and cannot fail. Any
  /// thread.
  virtual Result<std::function<void()>> prepare(const Options& options) = 0;
  /// Ends every session; execs among them are killed, containers go on. False when something still
  /// blocks at the deadline: the server must not be destroyed then.
  virtual bool stop(Deadline deadline) = 0;
};

}  // namespace fluyt::streaming
