#include "metrics_endpoint.h"

#include <utility>

namespace fluyt::daemon {

Result<MetricsEndpoint::Open> MetricsEndpoint::open(const std::string& address) const {
  Open open{.address = address, .server = nullptr};
  if (!address.empty()) open.server = FLUYT_TRY(MetricsServer::start(address, collect_, logger_));
  return open;
}

Result<> MetricsEndpoint::start(std::function<std::string()> collect, const std::string& address) {
  collect_ = std::move(collect);
  *open_.lock() = FLUYT_TRY(open(address));
  return {};
}

Result<std::function<void()>> MetricsEndpoint::prepare(const std::string& address) {
  if (open_.lock()->address == address) return std::function<void()>([] {});
  const Open next = FLUYT_TRY(open(address));
  return std::function<void()>([this, next] {
    // The one before ends with this scope, not under the lock.
    const Open before = std::exchange(*open_.lock(), next);
  });
}

void MetricsEndpoint::stop() { const Open last = std::exchange(*open_.lock(), {}); }

}  // namespace fluyt::daemon
