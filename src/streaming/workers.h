#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/time.h"

namespace fluyt::streaming {

/// Threads for what blocks: the engine's verbs. As many as are busy, and no more than `most`; what
/// comes on top waits its turn. Thread-safe.
class Workers {
 public:
  explicit Workers(size_t most) : most_(most) {}
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  /// Waits for what is under way, as long as that takes.
  ~Workers();
  void post(std::function<void()> work);
  /// Waits until everything that was posted is done. False at the deadline.
  bool drain(Deadline deadline);

 private:
  void run();

  const size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  size_t busy_ = 0;
  bool ending_ = false;
};

}  // namespace fluyt::streaming
