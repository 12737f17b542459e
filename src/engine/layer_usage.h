#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "engine/model.h"
#include "engine/worker.h"

namespace fluyt::engine {

/// What is known of one root, and when it may be walked again (boot ns).
struct LayerFinding {
  std::optional<DiskUsage> last;
  int incomplete = 0;  // walks in a row that did not see all
  int64_t next_at = 0;
};
/// With what a walk from `began` to `ended` (boot ns) has found; nothing: it failed. What an
/// incomplete one did not see is not gone: of it and the last finding the larger figures are kept,
/// and the next walk may begin sooner, up to three times in a row.
LayerFinding after_walk(LayerFinding before, std::optional<DiskUsage> found, int64_t began,
                        int64_t ended);

/// What containers have written into their roots. To know that, a tree has to be walked, so it is
/// walked behind the callers' backs by one thread, at most every ten seconds and for at most a
/// twentieth of the time; callers get what was found last, with the time of the finding.
class LayerUsage {
 public:
  using Measure = std::function<Result<DiskUsage>(const std::string& container_id)>;
  explicit LayerUsage(Measure measure) : measure_(std::move(measure)) {}

  /// The last finding of each of `ids`, for those that have one. For a new container, whose tree is
  /// small, the first is waited for until `deadline`. Asking is what has it measured anew.
  std::map<std::string, DiskUsage> get(const std::vector<std::string>& ids, Deadline deadline);
  void forget(const std::string& id);
  /// Ends the thread, after the walk that it is at.
  void stop() { worker_.stop(); }

 private:
  struct Slot {
    LayerFinding finding;
    bool queued = false;
    bool tried = false;
  };
  void measure(const std::string& id);

  const Measure measure_;
  std::mutex mutex_;
  std::condition_variable measured_;
  std::map<std::string, Slot> slots_;
  Worker worker_;  // last: ends before what it uses
};

}  // namespace fluyt::engine
