#pragma once

#include <grpcpp/server_context.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "fluyt/v1/control.pb.h"
#include "image/image_store.h"

namespace fluyt::control {

using LayerMessages = google::protobuf::RepeatedPtrField<v1::LayerProgress>;

/// Between the threads of a pull (push, import) and its call: the latest of each layer, so that a
/// slow caller makes nobody wait and no queue grow.
class LayerReports {
 public:
  void update(const image::LayerProgress& layer);
  void finish();
  /// Adds what changed; waits for the next time to report or the end. True at the end.
  bool wait(LayerMessages& changed);

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, image::LayerProgress> changed_;
  bool done_ = false;
};

using ProgressSink = std::function<void(const image::LayerProgress&)>;

/// Runs `work(progress, cancelled)` in a thread of its own, and `tell`s what changed at most ten
/// times a second. When `tell` says no or the caller is gone, `cancelled` is set and the work
/// waited for.
template <class Value, class Tell, class Work>
Result<Value> with_progress(grpc::ServerContext& context, Tell tell, Work work) {
  LayerReports reports;
  std::atomic<bool> cancelled = false;
  std::optional<Result<Value>> outcome;
  std::thread thread([&] {
    const ProgressSink sink = [&](const image::LayerProgress& layer) { reports.update(layer); };
    Result<Value> result = work(sink, cancelled);
    outcome.emplace(std::move(result));
    reports.finish();
  });
  for (bool done = false; !done;) {
    LayerMessages changed;
    done = reports.wait(changed);
    if (!changed.empty() && !tell(changed)) cancelled = true;
    if (context.IsCancelled()) cancelled = true;
  }
  thread.join();
  return std::move(*outcome);
}

}  // namespace fluyt::control
