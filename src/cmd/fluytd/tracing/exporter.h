#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/time.h"
#include "cmd/fluytd/tracing/collector.h"
#include "cmd/fluytd/tracing/options.h"
#include "cmd/fluytd/tracing/spans.h"

namespace fluyt::daemon {

/// What became of spans. Outlives every exporter.
struct SpanCounts {
  std::atomic<uint64_t> sent{0};
  std::atomic<uint64_t> dropped{0};  // there was no room, or nobody to take them in time
  std::atomic<uint64_t> refused{0};  // by the collector
};

/// Its clocks and bounds; shorter ones in tests.
struct ExportPace {
  size_t queue_spans = 8192;
  size_t batch_spans = 512;
  int64_t wait_ms = 5'000;      // at most, for a batch to fill
  int64_t timeout_ms = 10'000;  // of one request
  int64_t pause_ms = 1'000;     // after a failure; doubled each time
  int64_t most_pause_ms = 30'000;
  int64_t patience_ms = 120'000;  // with one batch
};

/// Sends calls to a collector, from a thread of its own. Nobody waits for it: what finds no room is
/// dropped and counted.
class Exporter {
 public:
  Exporter(const TracingOptions& options, SpanSource source, MakeId make_id, SpanCounts& counts,
           Logger& logger, ExportPace pace = {});
  /// stop() without any time.
  ~Exporter();
  Exporter(const Exporter&) = delete;
  Exporter& operator=(const Exporter&) = delete;

  /// Any thread; takes a lock for a moment.
  void add(TracedCall call);
  /// Sends what is queued, until the deadline; the rest is dropped. Once.
  void stop(Deadline deadline);

 private:
  struct Queued {
    TracedCall call;
    std::string trace_id;  // of a trace of its own
  };
  struct Batch {
    std::vector<Span> spans;
  };
  void run();
  Batch take_batch();
  void deliver(const Batch& batch);
  /// False when it has to be tried again after `pause_ms`.
  bool try_to_send(const Batch& batch, const std::string& body, int64_t& pause_ms);
  /// False when we are to end.
  bool pause(int64_t ms);
  void say_trouble(const std::string& why);
  void say_well();

  const size_t sampling_per_million_;
  const SpanSource source_;
  const MakeId make_id_;
  const ExportPace pace_;
  SpanCounts& counts_;
  Logger& logger_;
  Collector collector_;  // of the thread's
  bool in_trouble_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Queued> queue_;
  size_t queued_spans_ = 0;
  int64_t oldest_ns_ = 0;  // when the queue was last empty and got something
  bool stopping_ = false;
  bool last_tried_ = false;                 // after that
  std::atomic<int64_t> end_ns_{INT64_MAX};  // boot time
  std::thread thread_;
};

}  // namespace fluyt::daemon
