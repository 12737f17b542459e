#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "base/guarded.h"
#include "base/log.h"
#include "base/time.h"
#include "cmd/fluytd/tracing/exporter.h"
#include "cmd/fluytd/tracing/options.h"
#include "cmd/fluytd/tracing/spans.h"

namespace fluyt::daemon {

/// Where calls are sent now: nowhere, or to a collector that may change.
class Tracing {
 public:
  Tracing(const TracingOptions& options, Logger& logger);

  /// Whether it is worth while to watch a call.
  bool is_on() const { return on_; }
  /// Any thread; waits for nothing.
  void add(TracedCall call);
  /// What it returns puts other options in force: new calls go by them, and what is queued has a
  /// second to be sent.
  std::function<void()> prepare(const TracingOptions& options);
  /// Sends what is queued, until the deadline.
  void stop(Deadline deadline);
  const SpanCounts& counts() const { return counts_; }

 private:
  std::shared_ptr<Exporter> make(const TracingOptions& options);
  struct Open {
    TracingOptions options;
    std::shared_ptr<Exporter> exporter;  // none: tracing is off
  };
  Logger& logger_;
  SpanCounts counts_;
  Guarded<Open> open_;
  std::atomic<bool> on_{false};
};

}  // namespace fluyt::daemon
