#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <utility>

#include "base/result.h"
#include "base/time.h"

namespace fluyt::network {

/// Who runs a plugin's program takes a turn, in the order in which they came, so that a node's
/// whole of pods, which a kubelet asks for at once, does not have all its programs share few
/// processors until each is past its deadline. What is slow for another reason gives its place
/// away: after `slow_ms` a turn no longer counts. Thread-safe.
class Turns {
 public:
  explicit Turns(size_t at_once, int64_t slow_ms = kSlowMs);
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;

  /// Held while it lives; not longer than its Turns.
  class Turn {
   public:
    Turn(Turn&& other) noexcept
        : turns_(std::exchange(other.turns_, nullptr)), place_(other.place_) {}
    Turn& operator=(Turn&&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->end(place_);
    }

   private:
    friend class Turns;
    Turn(Turns& turns, std::list<int64_t>::iterator place) : turns_(&turns), place_(place) {}
    Turns* turns_;
    std::list<int64_t>::iterator place_;
  };
  /// kDeadlineExceeded when its turn has not come.
  Result<Turn> take(Deadline deadline);

  /// Twice as many as there are processors: a program waits now and then.
  static size_t for_this_machine();

 private:
  static constexpr int64_t kSlowMs = 5'000;

  /// Milliseconds until a place is free by itself; 0: one is.
  int64_t until_free_ms() const;
  void end(std::list<int64_t>::iterator place);

  const size_t at_once_;
  const int64_t slow_ns_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<int64_t> running_;   // when they began, by boot time, the earliest first
  std::list<uint64_t> waiting_;  // the first of them is the next
  uint64_t next_ticket_ = 0;
};

}  // namespace fluyt::network
