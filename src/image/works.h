#pragma once

#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace fluyt::image {

/// Pulls, imports and repairs under way, and whoever makes fix-ups of a chain, by what they are
/// called. While there is one, what is unfinished on the disk may be its own. Thread-safe.
class Works {
 public:
  class Work {
   public:
    Work(Works& works, std::multiset<std::string>::iterator me) : works_(&works), me_(me) {}
    Work(Work&& other) noexcept : works_(std::exchange(other.works_, nullptr)), me_(other.me_) {}
    Work& operator=(Work&&) = delete;
    ~Work() {
      if (works_ == nullptr) return;
      const std::lock_guard lock(works_->mutex_);
      works_->names_.erase(me_);
    }

   private:
    Works* works_;
    std::multiset<std::string>::iterator me_;
  };

  Work begin(std::string name) {
    const std::lock_guard lock(mutex_);
    return {*this, names_.insert(std::move(name))};
  }
  std::vector<std::string> names() const {
    const std::lock_guard lock(mutex_);
    return {names_.begin(), names_.end()};
  }
  /// Runs `act` when no work is under way; none begins meanwhile. False when one is.
  template <class Act>
  bool alone(Act act) {
    const std::lock_guard lock(mutex_);
    if (!names_.empty()) return false;
    act();
    return true;
  }

 private:
  mutable std::mutex mutex_;
  std::multiset<std::string> names_;
};

}  // namespace fluyt::image
