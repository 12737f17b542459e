#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/abi/file.h"
#include "guest/vfs/file.h"
#include "guest/vfs/watches.h"

namespace fluyt::guest {

struct NewNode {
  uint32_t mode = 0;  // with the type
  uint64_t device = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

struct SetAttributes {
  std::optional<uint32_t> mode;  // permission bits
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<Timestamp> accessed;
  std::optional<Timestamp> modified;
};

/// What setxattr does when the attribute is there already, or is not.
enum class AttributeMode : uint8_t { kAny, kCreate, kReplace };
inline constexpr size_t kMaxAttribute = 65536;  // XATTR_SIZE_MAX, and what a list may take

/// A file system object. Names are single components, never "." or "..". Permissions were checked.
/// A file that is open for writing is not executed, and one that runs is not opened for writing
/// (ETXTBSY of execve(2) and open(2)).
class TextUse {
 public:
  /// False: it runs.
  bool begin_writing() { return begin(1); }
  void end_writing() { uses_.fetch_sub(1); }
  /// False: somebody writes.
  bool begin_running() { return begin(-1); }
  void end_running() { uses_.fetch_add(1); }

 private:
  bool begin(int one) {
    int now = uses_.load();
    while ((now > 0) == (one > 0) || now == 0)
      if (uses_.compare_exchange_weak(now, now + one)) return true;
    return false;
  }
  std::atomic<int> uses_{0};  // above 0: who writes; below: who runs
};

/// What a file is to all who have it, whatever name or tree they found it by. Its address is the
/// file's as long as an inode of it lives.
struct FileIdentity {
  TextUse text_use;
  /// What a FIFO's or a socket's name stands for: kept by who opens it.
  std::shared_ptr<void> attachment;
  std::mutex attachment_lock;
};

class Inode : public std::enable_shared_from_this<Inode> {
 public:
  Inode() = default;
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;
  virtual ~Inode() = default;

  virtual FileIdentity& identity() { return identity_; }

  virtual uint32_t type() const = 0;  // S_IF*
  virtual ErrnoOr<Stat> stat() = 0;
  virtual Errno set_attributes(const SetAttributes& change) = 0;
  virtual Errno truncate(int64_t /*size*/) { return Errno(EINVAL); }
  /// Its bytes were changed on behalf of `who`: what it may do to whoever executes it goes
  /// (inode(7), "The file type and mode"), where the host does not see to that.
  virtual void written_by(const Credentials& /*who*/) {}
  virtual ErrnoOr<StatfsBuffer> statfs() { return StatfsBuffer{}; }
  /// A description of it. `path` is where it was found.
  virtual ErrnoOr<FilePtr> open(DentryPtr path, int flags) = 0;

  virtual ErrnoOr<std::string> readlink() { return Errno(EINVAL); }
  /// A magic link's target (/proc/self/fd/N); null when it is an ordinary link.
  virtual ErrnoOr<DentryPtr> jump() { return DentryPtr(); }

  /// The process that a folder of /proc shows, for who takes its descriptor for one of the process
  /// (pidfd_send_signal(2)); null: it is none, or the process is gone.
  virtual std::shared_ptr<void> process() { return nullptr; }

  virtual ErrnoOr<std::shared_ptr<Inode>> lookup(std::string_view /*name*/) {
    return Errno(ENOTDIR);
  }
  virtual ErrnoOr<std::vector<DirEntry>> list() { return Errno(ENOTDIR); }
  virtual ErrnoOr<std::shared_ptr<Inode>> make(std::string_view /*name*/, const NewNode& /*node*/) {
    return Errno(EROFS);
  }
  /// A file without a name (O_TMPFILE); `linkable`: it may get one later.
  virtual ErrnoOr<std::shared_ptr<Inode>> make_unnamed(const NewNode& /*node*/, bool /*linkable*/) {
    return Errno(EOPNOTSUPP);
  }
  virtual ErrnoOr<std::shared_ptr<Inode>> symlink(std::string_view /*name*/,
                                                  std::string_view /*target*/,
                                                  const NewNode& /*owner*/) {
    return Errno(EROFS);
  }
  virtual Errno link(std::string_view /*name*/, Inode& /*target*/) { return Errno(EXDEV); }
  virtual Errno unlink(std::string_view /*name*/, Inode& /*target*/) { return Errno(EROFS); }
  virtual Errno remove_dir(std::string_view /*name*/, Inode& /*target*/) { return Errno(EROFS); }
  /// One rename at a time in the file system of a directory: no folder gets below itself. Null:
  /// there are no renames.
  virtual std::mutex* renames() { return nullptr; }
  virtual Errno rename(std::string_view /*name*/, Inode& /*to*/, std::string_view /*new_name*/,
                       int /*flags*/) {
    return Errno(EXDEV);
  }
  /// Extended attributes (xattr(7)), by full names; permissions and sizes were checked. ENODATA
  /// when there is none of the name, EOPNOTSUPP where the file system has none of the kind.
  virtual ErrnoOr<std::string> get_attribute(const std::string& /*name*/) {
    return Errno(EOPNOTSUPP);
  }
  virtual Errno set_attribute(const std::string& /*name*/, std::string_view /*value*/,
                              AttributeMode /*mode*/) {
    return Errno(EOPNOTSUPP);
  }
  virtual ErrnoOr<std::vector<std::string>> list_attributes() { return std::vector<std::string>(); }
  virtual Errno remove_attribute(const std::string& /*name*/) { return Errno(EOPNOTSUPP); }
  /// False: what lookup said may be wrong at the next look (/proc).
  virtual bool cacheable() const { return true; }
  /// How long what lookup said may be believed, in nanoseconds; then lookup_again has to be asked.
  virtual int64_t believed_ns() const { return kForEver; }
  static constexpr int64_t kForEver = -1;
  /// As lookup, by who knows `known` under the name: gives that one if it is still the same file.
  virtual ErrnoOr<std::shared_ptr<Inode>> lookup_again(std::string_view name,
                                                       const std::shared_ptr<Inode>& /*known*/) {
    return lookup(name);
  }
  /// As stat, for who had lookup give this inode just now: what was said of it then, or since, is
  /// new enough.
  virtual ErrnoOr<Stat> stat_as_found() { return stat(); }
  /// What was believed until now may be wrong.
  virtual void distrust() {}

  /// Asked for once: a file keeps it for life.
  ErrnoOr<FileKey> key() {
    if (!key_known_.load(std::memory_order_acquire)) {
      const Stat now = GUEST_TRY(stat());
      // Two at once write the same.
      device_.store(now.dev, std::memory_order_relaxed);
      number_.store(now.ino, std::memory_order_relaxed);
      key_known_.store(true, std::memory_order_release);
    }
    return FileKey{device_.load(std::memory_order_relaxed),
                   number_.load(std::memory_order_relaxed)};
  }

  bool is_dir() const { return (type() & 0170000) == 0040000; }
  bool is_link() const { return (type() & 0170000) == 0120000; }

 private:
  FileIdentity identity_;
  std::atomic<bool> key_known_{false};
  std::atomic<uint64_t> device_{0};
  std::atomic<uint64_t> number_{0};
};
using InodePtr = std::shared_ptr<Inode>;

/// Those of the file (capabilities(7)); none where its file system has no such attribute.
inline std::optional<FileCapabilities> capabilities_of(const File& file) {
  const ErrnoOr<std::string> own = file.inode()->get_attribute("security.capability");
  return own.ok() ? read_file_capabilities(own.value()) : std::nullopt;
}

/// DT_* of an S_IF*.
inline uint8_t entry_type(uint32_t mode) { return static_cast<uint8_t>((mode & 0170000) >> 12); }

}  // namespace fluyt::guest
