#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/result.h"
#include "base/time.h"
#include "engine/mcs_levels.h"
#include "engine/model.h"
#include "engine/store.h"
#include "monitor/client/client.h"

namespace fluyt::engine {

/// One object: its present value, which readers copy as a pointer, and the lock that puts the verbs
/// changing it in a row.
template <class T>
class Entry {
 public:
  using Value = std::shared_ptr<const T>;
  explicit Entry(T value) : value_(std::make_shared<const T>(std::move(value))) {}

  Value value() const {
    const std::scoped_lock lock(mutex_);
    return value_;
  }

  /// Puts change(copy of the value) in the store, then in its place; on an error of the store
  /// nothing has changed. `change` returns false to leave everything as it is.
  template <class Change>
  Result<> change(Store& store, Change&& change) {
    const std::scoped_lock lock(mutex_);
    T copy = *value_;
    if (!std::forward<Change>(change)(copy)) return {};
    FLUYT_TRY(store.put(copy));
    value_ = std::make_shared<const T>(std::move(copy));
    changed_.notify_all();
    return {};
  }
  /// The same for what has happened already: the value changes whatever the store says.
  template <class Change>
  Result<> note(Store& store, Change&& change) {
    const std::scoped_lock lock(mutex_);
    T copy = *value_;
    if (!std::forward<Change>(change)(copy)) return {};
    Result<> stored = store.put(copy);
    value_ = std::make_shared<const T>(std::move(copy));
    changed_.notify_all();
    return stored;
  }

  /// Waits until `done(value)` holds, or the deadline; the value then.
  template <class Predicate>
  Value wait(Predicate&& done, Deadline deadline) const {
    std::unique_lock lock(mutex_);
    while (!done(*value_)) {
      const int left_ms = deadline.poll_timeout_ms();
      if (left_ms == 0) break;
      if (left_ms < 0) {
        changed_.wait(lock);
      } else {
        changed_.wait_for(lock, std::chrono::milliseconds(left_ms));
      }
    }
    return value_;
  }

  std::mutex verbs;  // held through a verb that changes the object; never by a reader
  std::atomic<bool> ending{false};  // stop or remove has begun
  /// Made for a caller that had gone by then: whoever asks for the same under the same name gets
  /// it.
  std::atomic<bool> undelivered{false};

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  Value value_;
};

class SandboxEntry final : public Entry<Sandbox> {
 public:
  using Entry::Entry;
  std::shared_ptr<monitor::Client> client() const {
    const std::scoped_lock lock(client_mutex_);
    return client_;
  }
  void set_client(std::shared_ptr<monitor::Client> client) {
    const std::scoped_lock lock(client_mutex_);
    client_ = std::move(client);
  }
  /// With Core::event_order: it was lost, whatever its state was; one in kCreating is not to
  /// become ready.
  bool lost = false;
  std::mutex adopting;                  // over Core::adopt(), before `verbs`
  std::atomic<bool> ends_again{false};  // it is posted to be ended once more, after a failure
  McsLevels::Hold level;                // of its SELinux labels; set before others know the entry

 private:
  mutable std::mutex client_mutex_;
  std::shared_ptr<monitor::Client> client_;
};

class ContainerEntry final : public Entry<Container> {
 public:
  ContainerEntry(Container value, std::shared_ptr<SandboxEntry> in)
      : Entry(std::move(value)), sandbox(std::move(in)) {}
  const std::shared_ptr<SandboxEntry> sandbox;
  /// With Core::event_order: an exit that was told while the container was in kCreating or made
  /// again, for whoever records that it was made.
  std::optional<monitor::ContainerInfo> early_exit;
  /// The same: it has exited, and is being made once more.
  bool made_again = false;
  /// How many calls use its root, through its process or mounted once it has exited. Counted up
  /// before its state is looked at.
  std::atomic<int> root_users{0};
  McsLevels::Hold level;  // of its files' label; set under `verbs`, or before others know the entry
};

using SandboxEntryPtr = std::shared_ptr<SandboxEntry>;
using ContainerEntryPtr = std::shared_ptr<ContainerEntry>;

}  // namespace fluyt::engine
