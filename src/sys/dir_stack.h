#pragma once

#include <dirent.h>
#include <sys/types.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::sys {

/// Where a walk through a tree stands: a directory, and the way back from it. Of any depth, with
/// the descriptors of the kMaxKept outermost directories and of the deepest, kMaxOpen in all, and
/// 16 bytes for each other one. Neither a link nor a mount point is ever entered. Containers make
/// such trees: a path of theirs may be longer than PATH_MAX.
class DirStack {
 public:
  static constexpr size_t kMaxOpen = 32;
  static constexpr size_t kMaxKept = 8;

  /// At the directory `name` of `parent`. `flags` are for every open of a directory: O_NOATIME.
  static Result<DirStack> open(FdRef parent, const std::string& name, int flags = 0);

  /// The directory where the walk stands, and how deep that is; the first is 1.
  FdRef dir() const { return FdRef(dirfd(open_.back().stream.get())); }
  size_t depth() const { return closed_.size() + open_.size(); }

  /// Its next entry, which is not "." or ".."; null at its end. Good until the next read().
  Result<const dirent*> read();
  /// Has read() begin again.
  void rewind() { rewinddir(open_.back().stream.get()); }
  /// Into the entry that was read last. ENOTDIR, ELOOP, ENOENT: it is no directory (any more);
  /// EXDEV: something is mounted there.
  Result<> enter();
  /// Back, with depth() > 1: the entry that was entered, or null where the directory had been
  /// closed meanwhile. read() goes on behind it. kAborted when somebody has moved the directory,
  /// or has removed it: then the walk stands in the nearest directory above that is still open, and
  /// read() goes on behind what was entered there.
  Result<const dirent*> leave();

 private:
  struct Closer {
    void operator()(DIR* dir) const { closedir(dir); }
  };
  using Stream = std::unique_ptr<DIR, Closer>;
  struct Open {
    Stream stream;
    const dirent* entry = nullptr;  // the last that was read, in the stream's own memory
  };
  struct Closed {
    ino_t inode;
    long position;
  };
  explicit DirStack(int flags) : flags_(flags) {}
  static Result<Stream> open_stream(FdRef parent, const char* name, int flags);

  int flags_;
  std::deque<Open> open_;       // the outermost first
  std::vector<Closed> closed_;  // those between the first kMaxKept of them and the others
};

/// What a tree takes on its disk.
struct TreeSize {
  uint64_t bytes = 0;  // allocated, as du(1) counts; a hard-linked file once
  uint64_t inodes = 0;
  bool complete = true;  // false: the limit was met, or the tree changed under the walk
};
/// Of `name` in `parent` and what is below it on the same file system, up to `max_inodes`. What is
/// made or removed meanwhile may be counted or not. kNotFound when there is nothing.
Result<TreeSize> tree_size(FdRef parent, const std::string& name, uint64_t max_inodes = UINT64_MAX);

}  // namespace fluyt::sys
