#pragma once

#include <linux/seccomp.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "guest/abi/errno.h"
#include "guest/abi/file.h"
#include "guest/base/listener_table.h"
#include "guest/platform/host/child.h"
#include "sys/fd.h"

/// The process that holds the container's root. The sentry names files by handles and single names;
/// the broker resolves them beneath the root, one step at a time, and hands out descriptors.
namespace fluyt::guest::host {

/// What the two say to each other, in memory that both map. The broker trusts none of it.
struct BrokerMessage {
  enum Op : uint32_t {
    kLookup = 1,
    kOpen,
    kCreate,
    kMakeDir,
    kMakeNode,
    kSymlink,
    kLink,
    kUnlink,
    kRename,
    kReadlink,
    kStat,
    kChmod,
    kChown,
    kSetTimes,
    kStatfs,
    kForget,
    kGetAttribute,
    kSetAttribute,
    kListAttributes,
    kRemoveAttribute,
    kOpenSetting,
  };
  uint32_t op = 0;
  int32_t flags = 0;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t device = 0;
  uint64_t handle = 0;
  uint64_t other = 0;
  // Handles that are used no more, whatever else is asked.
  static constexpr size_t kMaxForgotten = 256;
  uint32_t forgotten_count = 0;
  uint64_t forgotten[kMaxForgotten] = {};
  Timestamp times[2];
  char name[256] = {};
  char other_name[256] = {};
  char text[4096] = {};
  char value[65536] = {};  // of an attribute, or the names of all
  // The answer.
  int32_t error = 0;
  uint32_t has_descriptor = 0;
  uint64_t new_handle = 0;
  uint32_t length = 0;
  Stat stat;
  uint64_t mount = 0;  // of what was looked up or made: its id, 0 where the host tells none
  StatfsBuffer statfs;
};

/// The sentry's end. Any thread may call; one call at a time is carried out. The hand-off is a
/// seccomp notification: the broker's word for "done, what next" is a call that only we answer.
class Broker {
 public:
  static constexpr uint64_t kRoot = 0;
  static constexpr uint64_t kNone = ~uint64_t{0};
  /// Forks the broker for the tree at `root`; `procfs` is one of our PID namespace, of which it
  /// also opens `settings`: paths below sys, as the namespaces it is born in have them. Before any
  /// thread exists.
  static Result<std::unique_ptr<Broker>> start(const std::string& root, sys::FdRef procfs,
                                               const std::vector<std::string>& settings = {});
  /// The broker's process and all that it takes to speak to it, which may be sent elsewhere.
  struct Parts {
    Child child;
    KnownListener listener;
    sys::Fd memory;
  };
  static Result<Parts> fork_keeper(const std::string& root, sys::FdRef procfs,
                                   const std::vector<std::string>& settings = {});
  static Result<std::unique_ptr<Broker>> adopt(Parts parts);
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;
  ~Broker();

  struct Found {
    uint64_t handle = 0;
    Stat stat;
    uint64_t mount = 0;
    uint64_t order = 0;  // of lookups: the later, the more
  };
  struct Created {
    uint64_t handle = 0;
    Stat stat;
    uint64_t mount = 0;
    sys::Fd fd;
  };
  ErrnoOr<Found> find_root();
  /// One of the settings, to be read: by its place in the list.
  ErrnoOr<sys::Fd> open_setting(size_t index);
  /// `known`: what the name stood for; its handle is found again if it is still the same file.
  ErrnoOr<Found> lookup(uint64_t dir, std::string_view name, uint64_t known = kNone);
  ErrnoOr<sys::Fd> open(uint64_t handle, int flags);
  /// Without a name: a file that has none (O_TMPFILE), of which O_EXCL says that it never will.
  ErrnoOr<Created> create(uint64_t dir, std::string_view name, int flags, uint32_t mode,
                          uint32_t uid, uint32_t gid);
  ErrnoOr<Found> make_dir(uint64_t dir, std::string_view name, uint32_t mode, uint32_t uid,
                          uint32_t gid);
  ErrnoOr<Found> make_node(uint64_t dir, std::string_view name, uint32_t mode, uint32_t device,
                           uint32_t uid, uint32_t gid);
  ErrnoOr<Found> symlink(uint64_t dir, std::string_view name, std::string_view target, uint32_t uid,
                         uint32_t gid);
  Errno link(uint64_t handle, uint64_t dir, std::string_view name);
  Errno unlink(uint64_t dir, std::string_view name, int flags);
  Errno rename(uint64_t from, std::string_view name, uint64_t to, std::string_view new_name,
               int flags);
  ErrnoOr<std::string> readlink(uint64_t handle);
  ErrnoOr<Stat> stat(uint64_t handle);
  Errno chmod(uint64_t handle, uint32_t mode);
  Errno chown(uint64_t handle, uint32_t uid, uint32_t gid);
  Errno set_times(uint64_t handle, const Timestamp times[2]);
  ErrnoOr<StatfsBuffer> statfs(uint64_t handle);
  /// The handle is used no more. A handle keeps what it stands for on the disk: who knows that it
  /// has no name left says so now; otherwise it goes with what is asked next, or with many others.
  /// Never waits for the broker, so that it may be called with locks.
  enum class When : uint8_t { kNow, kLater };
  void forget(uint64_t handle, When when);
  /// user.* and security.capability of regular files and directories.
  ErrnoOr<std::string> get_attribute(uint64_t handle, std::string_view name);
  Errno set_attribute(uint64_t handle, std::string_view name, std::string_view value, int flags);
  /// Names that end in zeros.
  ErrnoOr<std::string> list_attributes(uint64_t handle);
  Errno remove_attribute(uint64_t handle, std::string_view name);

 private:
  Broker(Child child, KnownListener listener, BrokerMessage* message, uint64_t first_id);
  template <class Fill>
  ErrnoOr<BrokerMessage*> ask(uint32_t op, Fill fill);
  ErrnoOr<BrokerMessage*> exchange();
  ErrnoOr<sys::Fd> take_descriptor();
  void put_forgotten();
  void forget_all();

  std::mutex mutex_;
  Child child_;
  KnownListener listener_;
  BrokerMessage* message_;
  uint64_t id_;
  uint64_t lookups_ = 0;
  std::mutex forgotten_mutex_;  // nothing is taken behind it
  std::vector<uint64_t> forgotten_;
  bool replaced_ = false;   // a file, perhaps, since they were last told
  bool is_urgent_ = false;  // they are to be told without waiting for the next call
  bool is_ending_ = false;
  std::condition_variable told_;
  std::thread forgetter_;  // tells them; made when it is first needed
};

/// A directory's entries from an open descriptor of it.
struct HostEntry {
  std::string name;
  uint64_t ino = 0;
  uint8_t type = 0;
};
ErrnoOr<std::vector<HostEntry>> list_directory(sys::FdRef fd);

}  // namespace fluyt::guest::host
