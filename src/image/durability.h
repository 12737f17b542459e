#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
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

/// A thread that runs `sync` some time after it was asked to, once for all who asked meanwhile, and
/// `again_after` later once more when it was not done. And
/// while layers are being written it runs `write_ahead` again and again, so that little is left for
/// the sync: the disk would have nothing to do until the last layer is there.
class Syncer {
 public:
  enum class Outcome { kDone, kTryAgain };
  Syncer(std::function<Outcome()> sync, std::function<void()> write_ahead,
         std::chrono::milliseconds again_after = std::chrono::seconds(30));
  ~Syncer();
  Syncer(const Syncer&) = delete;
  Syncer& operator=(const Syncer&) = delete;
  void ask();

  /// Layers are being written as long as one of these is there.
  class Writing {
   public:
    explicit Writing(Syncer& syncer);
    ~Writing();
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;

   private:
    Syncer& syncer_;
  };

 private:
  void loop();
  const std::function<Outcome()> sync_;
  const std::function<void()> write_ahead_;
  const std::chrono::milliseconds again_after_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t writing_ = 0;
  bool asked_ = false;
  std::optional<std::chrono::steady_clock::time_point> again_at_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fluyt::image
