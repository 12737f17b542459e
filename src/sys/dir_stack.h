#pragma once

#include <dirent.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace fluyt::sys {

/// Where a walk through a tree stands: a directory, and the way back from it. Of any depth, with
/// the descriptors of the kMaxKept outermost directories and of the deepest, kMaxOpen in all, and
/// 48 bytes for each other one: where its reading stood, and its file handle (open_by_handle_at(2);
/// with CAP_DAC_READ_SEARCH, on a file system that has such). Neither a link nor a mount point is
/// ever entered. Containers make such trees: a path of theirs may be longer than PATH_MAX.
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
  /// Into the directory `name` of the one where the walk stands; errors as above. What was read of
  /// it last does not matter, nor does leave() tell of `name`.
  Result<> enter(const std::string& name);
  /// Back, with depth() > 1: the entry that was entered, or null where the directory had been
  /// closed meanwhile. read() goes on behind it. kAborted when the one that is left has another
  /// directory above it by now: somebody has moved or removed something. Whoever removes is to end
  /// there. The walk then stands in the nearest one above that is still to be had, one that it came
  /// through, wherever that is now, and read() goes on behind what was entered there: with a
  /// depth() that is one less nothing was missed.
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
  /// A file_handle with 24 bytes, which is enough for a directory of a disk's file system; all 0:
  /// there is none.
  using Handle = std::array<uint32_t, 8>;
  struct Identity {
    ino_t inode = 0;
    Handle handle = {};
    bool operator==(const Identity& other) const = default;
  };
  struct Closed {
    Identity identity;
    long position;
  };
  explicit DirStack(int flags) : flags_(flags) {}
  static Result<Stream> open_stream(FdRef parent, const char* name, int flags);
  static Result<Stream> into_stream(Fd fd);
  static Result<Identity> identify(const Stream& stream);
  Result<Stream> open_by_handle(Handle handle) const;

  int flags_;
  std::deque<Open> open_;       // the outermost first
  std::vector<Closed> closed_;  // those between the first kMaxKept of them and the others
};

/// What a tree takes on its disk.
struct TreeSize {
  uint64_t bytes = 0;  // allocated, as du(1) counts; a hard-linked file once
  uint64_t inodes = 0;
  bool complete = true;  // false: the limit was met, or something could not be got back to
};
/// Of `name` in `parent` and what is below it on the same file system, up to `max_inodes`. What is
/// made, moved or removed meanwhile may be counted or not. kNotFound when there is nothing.
Result<TreeSize> tree_size(FdRef parent, const std::string& name, uint64_t max_inodes = UINT64_MAX);

}  // namespace fluyt::sys
