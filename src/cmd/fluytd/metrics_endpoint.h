#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/guarded.h"
#include "base/log.h"
#include "base/result.h"
#include "cmd/fluytd/metrics/server.h"

namespace fluyt::daemon {

/// Where metrics are served now: nowhere, or at an address that may change.
class MetricsEndpoint {
 public:
  explicit MetricsEndpoint(Logger& logger) : logger_(logger) {}
  /// `collect` makes the page, on a thread of the server's, until stop(). `address` may be "".
  Result<> start(std::function<std::string()> collect, const std::string& address);
  /// Listens at another address. What it returns closes the one before, and cannot fail; without a
  /// call of it the other one is closed again. After start().
  Result<std::function<void()>> prepare(const std::string& address);
  void stop();

 private:
  struct Open {
    std::string address;
    std::shared_ptr<MetricsServer> server;
  };
  Result<Open> open(const std::string& address) const;

  Logger& logger_;
  std::function<std::string()> collect_;
  Guarded<Open> open_;
};

}  // namespace fluyt::daemon
