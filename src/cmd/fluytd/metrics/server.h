#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/log.h"
#include "base/result.h"

namespace fluyt::daemon {

/// Where metrics are served: "" for nowhere, "unix:/PATH", or "IP:PORT" ("[::1]:9100").
struct MetricsAddress {
  std::string unix_path;
  std::string ip;
  uint16_t port = 0;  // 0: a free one
};
/// Of what is not "". Errors say what was expected.
Result<MetricsAddress> parse_metrics_address(const std::string& text);

/// GET /metrics over HTTP/1.1, one request a connection, on a thread of its own: few connections,
/// short heads, little time for each; whoever wants more is refused, and nobody else waits for it.
class MetricsServer {
 public:
  /// `collect` makes the page, on the server's thread, once a request.
  static Result<std::unique_ptr<MetricsServer>> start(const std::string& address,
                                                      std::function<std::string()> collect,
                                                      Logger& logger);
  virtual ~MetricsServer() = default;
  virtual std::string where() const = 0;  // with the port that it got
};

}  // namespace fluyt::daemon
