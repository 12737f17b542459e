#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::sys {

/// openat(2) with O_CLOEXEC, restarted on EINTR. For paths of ours alone.
Result<Fd> open(FdRef dir, const std::string& path, int flags, mode_t mode = 0);
inline Result<Fd> open(const std::string& path, int flags, mode_t mode = 0) {
  return open(kCwd, path, flags, mode);
}

/// How a path that somebody else controls is resolved (openat2(2)).
enum class Resolve {
  kInRoot,   // RESOLVE_IN_ROOT: "/" and ".." and absolute links stay within `root`
  kBeneath,  // RESOLVE_BENEATH: whatever leaves `root` is EXDEV
};
/// Opens `path` below `root` with no magic links followed, O_CLOEXEC, retrying EAGAIN (a concurrent
/// rename) for 2 ms. The one door to paths inside images and containers: act on the descriptor that
/// it gives, never on the path again. `extra_resolve` adds RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV.
Result<Fd> open_in(FdRef root, std::string_view path, int flags, mode_t mode = 0,
                   Resolve how = Resolve::kInRoot, uint64_t extra_resolve = 0);
/// Makes the directories of `path` below `root`, step by step on descriptors (mkdirat then an open
/// that follows no link out of the root), and returns the last one, O_PATH. Existing ones are kept;
/// links inside the root are followed in the root.
Result<Fd> make_dirs_in(FdRef root, std::string_view path, mode_t mode);

/// Makes `path` and its parents; existing ones are left as they are. For paths of ours.
Result<> make_dirs(const std::string& path, mode_t mode);

/// Up to `buffer.size()` bytes; 0 at end of file. Restarted on EINTR.
Result<size_t> read_some(FdRef fd, std::span<char> buffer);
/// Everything up to end of file, at most `limit` bytes: more is kResourceExhausted.
Result<std::string> read_all(FdRef fd, size_t limit);
Result<std::string> read_file(const std::string& path, size_t limit);
Result<std::string> read_file(FdRef dir, const std::string& path, size_t limit);
/// All of `data`, looping over short writes and EINTR.
Result<> write_all(FdRef fd, std::string_view data);
/// Opens O_WRONLY|O_CLOEXEC and writes once: for files of cgroups and procfs, where one write is
/// one request.
Result<> write_file(FdRef dir, const std::string& path, std::string_view data);

/// Of a transaction file, as selinuxfs has such: writes `request` at once, and reads what is given
/// for it, at most `limit` bytes.
Result<std::string> transact(const std::string& path, std::string_view request, size_t limit);

enum class Durability { kNone, kFsync };
/// Writes a new file beside `path` and renames it over; with kFsync the file and its folder are
/// synced, so that after a power cut the old or the new content is there, whole.
Result<> write_file_atomic(FdRef dir, const std::string& path, std::string_view data, mode_t mode,
                           Durability durability = Durability::kNone);

Result<struct stat> stat_of(FdRef fd);
/// Without following a link in the last component; nothing when there is no such file.
Result<std::optional<struct stat>> find_stat(FdRef dir, const std::string& path);
bool exists(const std::string& path);
/// unlinkat(2); absent is success.
Result<> remove_file(FdRef dir, const std::string& path);
/// Removes a file or a whole tree on descriptors, however deep, no link followed, no mount crossed
/// (EBUSY or EXDEV then). Absent is success. Holds at most some 35 descriptors.
Result<> remove_tree(FdRef dir, const std::string& path);
inline Result<> remove_tree(const std::string& path) { return remove_tree(kCwd, path); }
/// Names in a directory, without "." and "..", sorted.
Result<std::vector<std::string>> list_dir(FdRef dir);
Result<std::vector<std::string>> list_dir(const std::string& path);
/// The directories among them.
Result<std::vector<std::string>> list_subdirs(FdRef dir);
Result<std::string> read_link(FdRef dir, const std::string& path);

/// A folder of our own below `parent`, removed with what is in it at the end of its life.
class TempDir {
 public:
  static Result<TempDir> create(const std::string& parent = "/tmp");
  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&& other) noexcept;
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

struct Pipe {
  Fd read;
  Fd write;
};
/// pipe2(2) with O_CLOEXEC and `flags`.
Result<Pipe> make_pipe(int flags = 0);
Result<> set_nonblocking(FdRef fd, bool on);
Result<Fd> duplicate(FdRef fd);
/// memfd_create(2) with `data` in it, read offset 0, sealed against every change.
Result<Fd> sealed_memfd(const std::string& name, std::string_view data);

}  // namespace fluyt::sys
