#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "base/result.h"

namespace fluyt::image {

/// Where and when data was written, for "durable or same boot": unsynced data is whole as long as
/// neither has changed.
struct WriteEpoch {
  std::string boot_id;
  uint64_t mount_id = 0;  // STATX_MNT_ID_UNIQUE; 0 where the kernel has none (before 6.8)
  bool can_tell_mounts() const { return mount_id != 0; }
  bool operator==(const WriteEpoch&) const = default;
};
Result<WriteEpoch> write_epoch_of(const std::string& folder);

/// A thread that runs `sync` some time after it was asked to, once for all who asked meanwhile.
class Syncer {
 public:
  explicit Syncer(std::function<void()> sync);
  ~Syncer();
  Syncer(const Syncer&) = delete;
  Syncer& operator=(const Syncer&) = delete;
  void ask();

 private:
  void loop();
  std::function<void()> sync_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool asked_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fluyt::image
