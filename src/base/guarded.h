#pragma once

#include <mutex>
#include <utility>

namespace fluyt {

/// Data that can be reached only with its mutex held. `lock()` gives a pointer-like view that holds
/// the mutex for its lifetime: keep it short, and never over a system call that may block.
template <class T>
class Guarded {
 public:
  class View {
   public:
    View(T& value, std::mutex& mutex) : lock_(mutex), value_(&value) {}
    T* operator->() { return value_; }
    T& operator*() { return *value_; }
    std::unique_lock<std::mutex>& native() { return lock_; }  // for condition variables

   private:
    std::unique_lock<std::mutex> lock_;
    T* value_;
  };

  Guarded() = default;
  explicit Guarded(T value) : value_(std::move(value)) {}
  View lock() { return View(value_, mutex_); }
  View lock() const { return View(const_cast<T&>(value_), mutex_); }

 private:
  mutable T value_{};
  mutable std::mutex mutex_;
};

}  // namespace fluyt
