#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/guarded.h"
#include "cmd/fluytd/config/changes.h"
#include "cmd/fluytd/config/load.h"
#include "cmd/fluytd/log/log.h"
#include "cmd/fluytd/tracing/tracing.h"
#include "control/control_service.h"
#include "engine/engine.h"
#include "image/library.h"
#include "metrics_endpoint.h"
#include "network_switch.h"
#include "streaming/server.h"

namespace fluyt::daemon {

/// What other settings are put in force in. Borrowed.
struct ReloadParts {
  engine::Engine& engine;
  image::Library& images;
  NetworkSwitch& network;
  streaming::Server& streams;
  MetricsEndpoint& metrics;
  Tracing& tracing;
  Log& log;
};

/// The configuration that is in force, and how another takes its place.
class Reloader final : public control::Daemon {
 public:
  Reloader(Invocation invocation, daemon::Config config, ReloadParts parts);

  /// Reads files and flags again and puts in force what may change, all of it or nothing: every
  /// part first makes ready what can fail. With an error all is as it was. Says in the log what
  /// changed, key by key, and which changes take a restart; those are no error. What is under way
  /// keeps the settings that it began with. One at a time; any thread.
  Result<> reload();

  std::shared_ptr<const daemon::Config> in_force() const { return in_force_.lock()->config; }
  control::Daemon::Config config() override;
  LogLevel log_level() override { return parts_.log.level(); }
  void set_log_level(LogLevel level) override;

 private:
  using Commit = std::function<void()>;
  struct InForce {
    std::shared_ptr<const daemon::Config> config;
    std::string refused;
  };
  Result<> try_to();
  Result<std::vector<Commit>> prepare(const Settings& settings, const std::vector<Change>& changes);
  void say(const std::vector<Change>& changes, const daemon::Config& config);

  const Invocation invocation_;
  const ReloadParts parts_;
  std::mutex reloading_;
  Guarded<InForce> in_force_;
};

}  // namespace fluyt::daemon
