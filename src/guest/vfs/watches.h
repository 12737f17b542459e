#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/base/wait.h"

/// Who watches files (inotify(7)), and how they are told. Events come from what the guest's own
/// programs do: what happens to a file from outside is not seen.
namespace fluyt::guest {

class Dentry;
class Inode;

/// What tells a file from every other, whatever stands for it here: device and inode.
using FileKey = std::pair<uint64_t, uint64_t>;

/// An inotify instance: its watches, and the events that it was not asked for yet. All of it but
/// the queue under the lock of its Watches.
class Watcher {
 public:
  WaitQueue& queue() { return queue_; }

 private:
  friend class Watches;
  struct Event {
    int32_t watch = 0;
    uint32_t mask = 0;
    uint32_t cookie = 0;
    std::string name;
    /// As read(2) shows it.
    size_t size() const;
    /// Of our memory.
    size_t cost() const { return sizeof(Event) + name.size(); }
  };
  std::deque<Event> events_;
  size_t shown_bytes_ = 0;
  bool overflowed_ = false;  // and the event that says so is among them
  std::map<int32_t, FileKey> watches_;
  int32_t last_watch_ = 0;
  WaitQueue queue_;
};

/// All watches of a tree. Its lock is taken behind the tree's and before those of queues.
class Watches {
 public:
  static constexpr size_t kMaxWatchers = 128;
  static constexpr size_t kMaxWatches = 65536;
  static constexpr size_t kMaxEvents = 16384;            // waiting for one watcher
  static constexpr size_t kMaxBytes = size_t{64} << 20;  // of events that wait for all of them

  Watches() = default;
  Watches(const Watches&) = delete;
  Watches& operator=(const Watches&) = delete;

  /// EMFILE beyond the limit.
  ErrnoOr<std::shared_ptr<Watcher>> make_watcher();
  /// Its watches go; nobody reads what is left.
  void close(Watcher& watcher);

  /// `mask` as inotify_add_watch(2) has it, checked. EEXIST with IN_MASK_CREATE, ENOSPC beyond the
  /// limit.
  ErrnoOr<int32_t> add(Watcher& watcher, const std::shared_ptr<Inode>& inode, uint32_t mask);
  /// EINVAL: it has no such watch.
  Errno remove(Watcher& watcher, int32_t watch);
  /// Whole events alone: none when none waits, EINVAL when the first does not fit.
  ErrnoOr<size_t> take(Watcher& watcher, std::span<std::byte> to);
  /// What take would give with room for everything.
  size_t waiting_bytes(Watcher& watcher);

  /// False: nobody is to be told anything. Cheap, to be asked first.
  bool any() const { return count_.load(std::memory_order_relaxed) != 0; }
  uint32_t next_cookie() { return cookies_.fetch_add(1) + 1; }

  enum class By : uint8_t { kName, kOpenFile };
  /// Something happened to a file: its watchers hear of it, and before them, with its name, those
  /// of its directory, unless it is what goes through a device or a FIFO. IN_EXCL_UNLINK keeps from
  /// them what is done through open files without name.
  void tell(const std::shared_ptr<Dentry>& at, uint32_t event, By by);
  /// Its own watchers alone.
  void tell_file(Inode& inode, uint32_t event);
  /// Something happened to a name in a directory.
  void tell_directory(Inode& dir, const std::string& name, uint32_t event, uint32_t cookie = 0);
  /// The file went with its last name and the last who had it open: so do its watches.
  void tell_gone(Inode& inode);

  /// Guards Dentry::parent and Dentry::name where they are changed, for who tells of a file without
  /// the tree's lock. Nothing else is locked behind it.
  std::mutex names;

 private:
  struct Watch {
    Watcher* watcher = nullptr;
    int32_t number = 0;
    uint32_t mask = 0;  // events, IN_EXCL_UNLINK, IN_ONESHOT
    // While somebody watches, the file system gives its number to no other file.
    std::shared_ptr<Inode> inode;
  };
  // What is let go behind the lock: an inode may end with it.
  using Ended = std::vector<std::shared_ptr<Inode>>;

  void deliver(const FileKey& key, uint32_t event, uint32_t cookie, const std::string& name,
               bool nameless, Ended& ended);
  void put(Watcher& to, Watcher::Event event);
  void pop(Watcher& from);
  void end(std::vector<Watch>& of, size_t at, Ended& ended);

  std::mutex mutex_;
  std::map<FileKey, std::vector<Watch>> watches_;
  std::atomic<size_t> count_{0};
  size_t watchers_ = 0;
  size_t bytes_ = 0;
  std::atomic<uint32_t> cookies_{0};
};

}  // namespace fluyt::guest
