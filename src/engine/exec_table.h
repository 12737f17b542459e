#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

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

/// The execs of all sandboxes. An exit may be told before the call that started the exec returns:
/// while one of the sandbox is being started, exits that nobody waits for yet are kept. Others are
/// of execs whose caller has gone, or are told again. Thread-safe.
class ExecTable {
 public:
  /// An exec of the sandbox is being started: to be held until it is claimed.
  class Starting {
   public:
    Starting(ExecTable& table, std::string sandbox_id);
    Starting(const Starting&) = delete;
    Starting& operator=(const Starting&) = delete;
    ~Starting();

   private:
    ExecTable& table_;
    const std::string sandbox_id_;
  };
  ExecWaitPtr claim(const std::string& sandbox_id, uint64_t exec_id);
  void exited(const std::string& sandbox_id, uint64_t exec_id, int32_t code);
  void forget(const std::string& sandbox_id, uint64_t exec_id);
  /// The sandbox is gone: whoever waits gets `code`.
  void end_all(const std::string& sandbox_id, int32_t code);

 private:
  struct OfSandbox {
    std::map<uint64_t, ExecWaitPtr> waits;  // that are claimed
    size_t starting = 0;
    std::map<uint64_t, int32_t> early;  // exits, while one is being started
    bool empty() const { return waits.empty() && starting == 0; }
  };
  Guarded<std::map<std::string, OfSandbox>> sandboxes_;
};

}  // namespace fluyt::engine
