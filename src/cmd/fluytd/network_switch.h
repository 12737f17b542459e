#pragma once

#include <functional>
#include <memory>
#include <shared_mutex>
#include <string>

#include "base/guarded.h"
#include "cmd/fluytd/metrics/counters.h"
#include "network/network.h"

namespace fluyt::daemon {

/// A network that can be exchanged for one with other folders while pods are attached: what DEL
/// needs is on disk, so that any of them takes down what another has set up. Calls that have begun
/// go on with the one that they began with.
class NetworkSwitch final : public network::Network {
 public:
  /// Calls are counted in `calls`, by operation; borrowed.
  static Result<std::unique_ptr<NetworkSwitch>> open(network::Options options, CallTable& calls,
                                                     Logger& logger);
  NetworkSwitch(std::shared_ptr<network::Network> first, CallTable& calls)
      : calls_(calls), network_(std::move(first)) {}
  /// Opens the other one. What it returns puts it in force, and cannot fail.
  Result<std::function<void()>> prepare(network::Options options, Logger& logger);

  network::Status status() override;
  Result<network::Attachment> attach(const network::SandboxNetwork& sandbox,
                                     Deadline deadline) override;
  Result<> check(const network::SandboxNetwork& sandbox, Deadline deadline) override;
  Result<> detach(const network::SandboxNetwork& sandbox, Deadline deadline) override;
  Result<> collect(const std::function<bool(const std::string& sandbox_id)>& exists,
                   Deadline deadline) override;
  Result<std::vector<std::string>> find_leftovers(
      const std::function<bool(const std::string& sandbox_id)>& exists, Deadline deadline) override;

 private:
  std::shared_ptr<network::Network> now() const { return *network_.lock(); }
  CallTable& calls_;
  Guarded<std::shared_ptr<network::Network>> network_;
  /// Each network keeps its own calls apart from its collections; a call of the one before must be,
  /// too. Shared: attach and detach; alone: collect.
  std::shared_mutex collecting_;
};

}  // namespace fluyt::daemon
