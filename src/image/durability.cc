#include "image/durability.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/strings.h"
#include "sys/process.h"

namespace fluyt::image {

namespace {

constexpr unsigned kStatxMountIdUnique = 0x4000;  // STATX_MNT_ID_UNIQUE, Linux 6.8: not in our libc
constexpr std::chrono::milliseconds kCoalesce{150};  // a pull that ends meanwhile shares the sync
// Each is a commit of the disk's journal, while which no file is made: four in a second cost a pull
// of small files a third of its time.
constexpr std::chrono::milliseconds kAheadEvery{1000};

}  // namespace

Result<WriteEpoch> write_epoch_of(const std::string& folder) {
  WriteEpoch out;
  out.boot_id = std::string(trim(FLUYT_TRY(sys::boot_id())));
  struct statx info{};
  if (::statx(AT_FDCWD, folder.c_str(), AT_SYMLINK_NOFOLLOW, kStatxMountIdUnique, &info) != 0) {
    return Error::from_errno(errno, cat("statx(", quote(folder), ")"));
  }
  if ((info.stx_mask & kStatxMountIdUnique) != 0) out.mount_id = info.stx_mnt_id;
  return out;
}

Syncer::Syncer(std::function<Outcome()> sync, std::function<void()> write_ahead,
               std::chrono::milliseconds again_after)
    : sync_(std::move(sync)),
      write_ahead_(std::move(write_ahead)),
      again_after_(again_after),
      thread_([this] { loop(); }) {}

Syncer::~Syncer() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Syncer::ask() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    asked_ = true;
  }
  changed_.notify_all();
}

Syncer::Writing::Writing(Syncer& syncer) : syncer_(syncer) {
  {
    const std::lock_guard<std::mutex> lock(syncer_.mutex_);
    ++syncer_.writing_;
  }
  syncer_.changed_.notify_all();
}

Syncer::Writing::~Writing() {
  const std::lock_guard<std::mutex> lock(syncer_.mutex_);
  --syncer_.writing_;
}

void Syncer::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    const auto woken = [this] { return asked_ || stopping_ || writing_ != 0; };
    if (again_at_.has_value()) {
      changed_.wait_until(lock, *again_at_, woken);
      if (std::chrono::steady_clock::now() >= *again_at_) asked_ = true;
    } else {
      changed_.wait(lock, woken);
    }
    if (asked_) {
      changed_.wait_for(lock, kCoalesce, [this] { return stopping_; });
      asked_ = false;
      again_at_.reset();
      lock.unlock();
      const Outcome outcome = sync_();
      lock.lock();
      if (outcome == Outcome::kTryAgain) {
        again_at_ = std::chrono::steady_clock::now() + again_after_;
      }
    } else if (stopping_) {
      return;
    } else {
      changed_.wait_for(lock, kAheadEvery, [this] { return asked_ || stopping_; });
      if (asked_ || stopping_ || writing_ == 0) continue;
      lock.unlock();
      write_ahead_();
      lock.lock();
    }
  }
}

}  // namespace fluyt::image
