#include "network_switch.h"

#include <mutex>
#include <string_view>
#include <utility>

#include "base/time.h"

namespace fluyt::daemon {
namespace {

/// Runs `call` and counts it.
template <class Call>
auto counted(CallTable& table, std::string_view operation, const Call& call) {
  Calls& calls = table.of("network", operation);
  ++calls.running;
  const int64_t began_ns = now_boot_ns();
  auto result = call();
  calls.end(result.ok() ? 0 : 2, now_boot_ns() - began_ns);  // gRPC's OK and UNKNOWN
  return result;
}

}  // namespace

Result<std::unique_ptr<NetworkSwitch>> NetworkSwitch::open(network::Options options,
                                                           CallTable& calls, Logger& logger) {
  auto first = FLUYT_TRY(network::Network::open(std::move(options), logger));
  return std::make_unique<NetworkSwitch>(std::move(first), calls);
}

Result<std::function<void()>> NetworkSwitch::prepare(network::Options options, Logger& logger) {
  std::shared_ptr<network::Network> next =
      FLUYT_TRY(network::Network::open(std::move(options), logger));
  return std::function<void()>([this, next] { *network_.lock() = next; });
}

network::Status NetworkSwitch::status() { return now()->status(); }

Result<network::Attachment> NetworkSwitch::attach(const network::SandboxNetwork& sandbox,
                                                  Deadline deadline) {
  const std::shared_lock collecting(collecting_);
  return counted(calls_, "attach", [&] { return now()->attach(sandbox, deadline); });
}

Result<> NetworkSwitch::check(const network::SandboxNetwork& sandbox, Deadline deadline) {
  return counted(calls_, "check", [&] { return now()->check(sandbox, deadline); });
}

Result<> NetworkSwitch::detach(const network::SandboxNetwork& sandbox, Deadline deadline) {
  const std::shared_lock collecting(collecting_);
  return counted(calls_, "detach", [&] { return now()->detach(sandbox, deadline); });
}

Result<> NetworkSwitch::collect(const std::function<bool(const std::string& sandbox_id)>& exists,
                                Deadline deadline) {
  const std::unique_lock collecting(collecting_);
  return counted(calls_, "collect", [&] { return now()->collect(exists, deadline); });
}

Result<std::vector<std::string>> NetworkSwitch::find_leftovers(
    const std::function<bool(const std::string& sandbox_id)>& exists, Deadline deadline) {
  const std::unique_lock collecting(collecting_);
  return now()->find_leftovers(exists, deadline);
}

}  // namespace fluyt::daemon
