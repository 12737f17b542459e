#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/base/wait.h"

/// Advisory locks of files (fcntl_locking(2), flock(2)), of all files of a kernel. They are among
/// the guest's programs: what programs of the host lock in a volume is not seen, nor are they
/// stopped.
namespace fluyt::guest {

class FileLocks {
 public:
  using Key = std::pair<uint64_t, uint64_t>;  // device and inode
  enum class Kind : uint8_t { kProcess, kDescription };
  enum class Mode : uint8_t { kRead, kWrite };
  static constexpr int64_t kEnd = INT64_MAX;

  /// A range of bytes; `owner` is a process's table of descriptors, or an open file description.
  struct Range {
    const void* owner = nullptr;
    Kind kind = Kind::kProcess;
    Mode mode = Mode::kRead;
    int64_t first = 0;
    int64_t last = kEnd;  // with it
    int32_t pid = 0;
  };

  /// What keeps `wanted` from being locked, if anything.
  std::optional<Range> find_conflict(const Key& key, const Range& wanted);
  /// EAGAIN, or waits while `sleeper` is given: EDEADLK, kRestartSys.
  Errno lock(const Key& key, const Range& wanted, Sleeper* sleeper);
  void unlock(const Key& key, const void* owner, int64_t first, int64_t last);

  /// Whole files, for an open file description: EWOULDBLOCK or waits. What it had is gone first.
  Errno lock_whole(const Key& key, const void* owner, Mode mode, int32_t pid, Sleeper* sleeper);
  void unlock_whole(const Key& key, const void* owner);

  /// One of the owner's descriptors of a file was closed: its ranges there go.
  void release(const Key& key, const void* owner);
  /// The owner is gone.
  void release_all(const void* owner);

  /// /proc/locks, with the numbers that who reads it knows processes by.
  std::string describe(const std::function<int32_t(int32_t pid)>& shown);

 private:
  struct Whole {
    const void* owner = nullptr;
    Mode mode = Mode::kRead;
    int32_t pid = 0;
  };
  struct File {
    std::vector<Range> ranges;  // sorted by nothing: few
    std::vector<Whole> wholes;
    bool empty() const { return ranges.empty() && wholes.empty(); }
  };
  const Range* conflict(const File& file, const Range& wanted) const;
  void set(File& file, const Range& wanted);
  void cut(File& file, const void* owner, int64_t first, int64_t last);
  bool would_deadlock(const void* waiter, const void* holder) const;
  void forget_if_empty(const Key& key);

  std::mutex mutex_;
  WaitQueue changed_;
  std::map<Key, File> files_;
  std::map<const void*, const void*> waits_for_;  // processes, by their owners
};

}  // namespace fluyt::guest
