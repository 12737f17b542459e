#pragma once

#include <sys/types.h>
#include <time.h>

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/standby_thread.h"
#include "sys/fd.h"

namespace fluyt::image {

/// What a file gets when its bytes are there.
struct FileLooks {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0;
  timespec mtime{};
};

/// All of `bytes` at `offset`. `path` is for the error, here and below.
Result<> write_at(sys::FdRef file, off_t offset, std::string_view bytes, std::string_view path);
/// Whatever comes behind it, set_times() is the last.
Result<> set_owner_and_special_bits(sys::FdRef file, const FileLooks& looks, std::string_view path);
Result<> set_times(sys::FdRef file, const FileLooks& looks, std::string_view path);

/// Gives small files their bytes and looks on a thread of its own, while its user makes the next
/// ones, which is the other half of the work. Nothing that the user does to a file's names
/// meanwhile matters to it.
class FileFiller {
 public:
  static constexpr size_t kMaxFileBytes = 64UL << 10U;

  /// `thread` is borrowed.
  explicit FileFiller(StandbyThread& thread);
  FileFiller(const FileFiller&) = delete;
  FileFiller& operator=(const FileFiller&) = delete;
  ~FileFiller();  // what is not yet written is let go of

  /// The next bytes of the file that is under way, which has at most kMaxFileBytes.
  void append(std::string_view bytes) { next_.bytes += bytes; }
  /// That file, which has just been made, and what it is to have. Waits while too many are under
  /// way. The error is of one before it, and of every call after that one.
  Result<> add(sys::Fd file, const FileLooks& looks, std::string path);
  /// Until all are done.
  Result<> finish();

 private:
  struct File {
    sys::Fd fd;
    size_t size = 0;
    FileLooks looks;
    std::string path;
  };
  /// So many that waking the other thread costs little beside them.
  struct Batch {
    static constexpr size_t kFiles = 64;
    static constexpr size_t kBytes = 256UL << 10U;
    std::vector<File> files;
    std::string bytes;  // of all of them
  };
  static Result<> fill(const Batch& batch);
  static Result<> fill_caught(const Batch& batch);
  void work();
  Result<> hand_over();

  StandbyThread& thread_;
  Batch next_;          // being gathered
  size_t counted_ = 0;  // bytes of it that are of whole files
  std::mutex mutex_;
  std::condition_variable changed_;
  Batch batch_;  // handed over
  bool is_full_ = false;
  bool ended_ = false;
  std::optional<Error> error_;  // of the first batch that went wrong
};

}  // namespace fluyt::image
