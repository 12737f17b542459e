#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/guarded.h"
#include "base/result.h"
#include "base/time.h"
#include "sys/fd.h"

namespace fluyt::engine {

/// The exit of one exec, told by the hub's thread and waited for by another.
class ExecWait {
 public:
  void set(int32_t code);
  std::optional<int32_t> wait(Deadline deadline);
  std::optional<int32_t> code() const;
  /// A descriptor that becomes readable with the exit, for whoever polls.
  Result<sys::FdRef> wake_fd();

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<int32_t> code_;
  sys::Fd wake_read_;
  sys::Fd wake_write_;
};
using ExecWaitPtr = std::shared_ptr<ExecWait>;

/// The execs of all sandboxes. An exit may be told before the call that started the exec returns,
/// so whoever comes first makes the place.
class ExecTable {
 public:
  ExecWaitPtr claim(const std::string& sandbox_id, uint64_t exec_id);
  void exited(const std::string& sandbox_id, uint64_t exec_id, int32_t code);
  void forget(const std::string& sandbox_id, uint64_t exec_id);
  /// The sandbox is gone: whoever waits gets `code`.
  void end_all(const std::string& sandbox_id, int32_t code);

 private:
  using Key = std::pair<std::string, uint64_t>;
  Guarded<std::map<Key, ExecWaitPtr>> waits_;
};

}  // namespace fluyt::engine
