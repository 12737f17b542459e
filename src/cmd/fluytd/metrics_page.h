#pragma once

#include <functional>
#include <string>

#include "cmd/fluytd/log/log.h"
#include "cmd/fluytd/metrics/counters.h"
#include "cmd/fluytd/tracing/tracing.h"
#include "control/control_service.h"
#include "engine/engine.h"

namespace fluyt::daemon {

/// What the page of metrics is made of. Borrowed.
struct MetricsSources {
  engine::Engine& engine;
  control::Daemon& daemon;
  const CallTable& rpcs;
  const CallTable& network;
  const Tracing& tracing;
  const Log& log;
};

/// Everything that docs/metrics.md lists, as it is now: from memory, but for this process' own
/// figures.
std::string metrics_page(const MetricsSources& sources);

}  // namespace fluyt::daemon
