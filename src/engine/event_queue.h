#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>

#include "base/time.h"
#include "engine/engine.h"

namespace fluyt::engine {

/// Between the engine's threads, which may not wait, and the thread of a call that sends events to
/// a client, which may be slow. Bounded: a queue that is full drops everything and takes nothing
/// any more, since a listener with a gap has to list anew anyway.
class EventQueue {
 public:
  static constexpr size_t kMaxQueued = 4096;
  explicit EventQueue(size_t limit = kMaxQueued) : limit_(limit) {}

  void push(const Event& event);
  /// Since when it has taken nothing any more (boot ns); nothing while all is well.
  std::optional<int64_t> full_since() const;

  enum class State {
    kOpen,
    kFull,   // events were lost
    kEnded,  // the engine ends; what came before it was given out
  };
  /// What has come, waiting for it until `deadline`; perhaps nothing.
  State take(std::deque<Event>& out, Deadline deadline);

 private:
  const size_t limit_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Event> events_;
  std::optional<int64_t> full_since_;
  bool ended_ = false;
};

}  // namespace fluyt::engine
