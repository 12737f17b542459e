#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/abi/file.h"
#include "guest/base/wait.h"
#include "guest/platform/platform.h"
#include "guest/vfs/credentials.h"
#include "guest/vfs/watches.h"

namespace fluyt::guest {

class Dentry;
using DentryPtr = std::shared_ptr<Dentry>;
class Inode;
class File;
class FdTable;
using FilePtr = std::shared_ptr<File>;
class FileLocks;
class Terminal;

/// What a terminal asks of the process behind a call, and does to it.
class JobControl {
 public:
  virtual ~JobControl() = default;
  /// Between ids, which all of these speak of, and the numbers of the caller's PID namespace; 0 for
  /// what it does not have.
  virtual int32_t shown(int32_t id) const = 0;
  virtual int32_t meant(int32_t number) const = 0;
  virtual int32_t process_group() = 0;
  virtual int32_t session() = 0;
  virtual bool leads_session() = 0;
  /// ESRCH when there is no such group, EPERM when it is of another session.
  virtual Errno find_group(int32_t group) = 0;
  virtual void signal_group(int32_t group, int signal) = 0;
  /// True when the caller blocks or ignores `signal`.
  virtual bool ignores(int signal) = 0;
  /// True when nobody in the session outside its group could continue it (credentials(7)).
  virtual bool is_orphaned() = 0;
  /// The controlling terminal, or null.
  virtual std::shared_ptr<Terminal> terminal() = 0;
  virtual void take_terminal(const std::shared_ptr<Terminal>& terminal) = 0;
  /// TIOCNOTTY: of a leader, for its whole session.
  virtual void give_up_terminal() = 0;
  /// Takes a session's terminal from all of its processes.
  virtual void release_terminal(int32_t session) = 0;
};

/// On whose behalf a file is used: how to sleep, and for ioctl where its memory is.
struct Caller {
  Sleeper& sleeper;
  const Credentials& credentials;
  AddressSpace* memory = nullptr;
  JobControl* job = nullptr;
  int32_t pid = 0;  // as SCM_CREDENTIALS shows it
};

struct DirEntry {
  std::string name;
  uint64_t ino = 0;
  uint8_t type = 0;  // DT_*
};

/// An open file description (open(2), NOTES): shared by every descriptor that dup and fork made.
class File {
 public:
  File(DentryPtr path, std::shared_ptr<Inode> inode, int flags)
      : path_(std::move(path)), inode_(std::move(inode)), flags_(flags) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  virtual ~File();

  /// The rest of opening, which may sleep and knows who opens; without locks. What it gives, if
  /// anything, is used in place of this file.
  virtual ErrnoOr<FilePtr> finish_open(Caller& /*caller*/) { return FilePtr(); }
  /// At `*offset`, which moves; streams ignore it. Blocks unless O_NONBLOCK.
  virtual ErrnoOr<size_t> read(Caller& caller, std::span<std::byte> to, int64_t* offset);
  virtual ErrnoOr<size_t> write(Caller& caller, std::span<const std::byte> from, int64_t* offset);
  virtual bool seekable() const { return false; }
  /// Whether bytes that were read, but could not be stored, can go back to where they came from.
  /// Of other streams a byte that cannot be stored must not be taken first.
  virtual bool takes_back() { return false; }
  virtual void put_back(std::span<const std::byte> /*bytes*/) {}
  /// Moves the position; called with `position_lock` held.
  virtual ErrnoOr<int64_t> seek(int64_t offset, int whence);
  virtual ErrnoOr<Stat> stat();
  /// POLL* bits that hold now; `wanted` says which matter to the caller, who is about to sleep on
  /// queue() when none does.
  virtual uint32_t ready(uint32_t wanted);
  virtual WaitQueue* queue() { return nullptr; }
  virtual ErrnoOr<uint64_t> ioctl(Caller& caller, uint32_t request, uint64_t argument);
  virtual ErrnoOr<std::vector<DirEntry>> list() { return Errno(ENOTDIR); }
  virtual Errno truncate(int64_t size);
  virtual Errno allocate(int mode, int64_t offset, int64_t length);
  virtual Errno sync() { return kOk; }
  /// The thread that calls has closed a descriptor of it, be it the last or not.
  virtual void closed() {}
  /// `table` has ended, in which there was a descriptor of it; whoever was the last to have it.
  virtual void ended_with(const FdTable& /*table*/) {}
  /// A descriptor of the host that memory can be mapped from; it lives as long as this file.
  virtual ErrnoOr<int> host_descriptor() { return Errno(ENODEV); }
  /// What a shared mapping of it keeps as long as it lives, and whether it may be written through.
  struct SharedUse {
    bool may_write = false;
    std::shared_ptr<void> hold;
  };
  /// EPERM: it is sealed against what is wanted.
  virtual ErrnoOr<SharedUse> map_shared(bool /*writes*/) { return SharedUse{writable(), nullptr}; }
  /// F_SEAL_* of fcntl(2); EINVAL for what cannot be sealed.
  virtual ErrnoOr<uint32_t> seals() { return Errno(EINVAL); }
  virtual Errno add_seals(uint32_t /*seals*/) { return Errno(EINVAL); }
  /// A shared mapping of zeros, as of /dev/zero.
  virtual bool maps_anonymous() const { return false; }
  /// What readlink of /proc/self/fd/N says when there is no path.
  virtual std::string describe() const { return "anon_inode:[unknown]"; }

  int flags() const { return flags_.load(); }
  void set_flags(int flags) { flags_.store(flags); }
  bool readable() const { return (flags() & 3) == 0 || (flags() & 3) == 2; }
  bool writable() const { return (flags() & 3) == 1 || (flags() & 3) == 2; }
  bool nonblocking() const { return (flags() & 04000) != 0; }
  bool appending() const { return (flags() & 02000) != 0; }
  const DentryPtr& path() const { return path_; }
  const std::shared_ptr<Inode>& inode() const { return inode_; }

  /// It was opened by its path: who watches hears of that, and of what is done with it from now on.
  void tell_opened(std::shared_ptr<Watches> watches);
  /// What it keeps as long as it is open.
  void keep(std::shared_ptr<void> hold) { hold_ = std::move(hold); }
  /// Whether it may be mapped to be executed: not where the mount that it was opened on says
  /// noexec.
  bool runnable() const { return runnable_; }
  void set_runnable(bool may) { runnable_ = may; }
  /// IN_* of inotify(7).
  void tell(uint32_t event) const {
    if (watches_ && watches_->any()) watches_->tell(path_, event, Watches::By::kOpenFile);
  }

  std::mutex position_lock;  // nothing that is held is taken before it
  int64_t position = 0;
  /// Where this description has locks of its own: they go with it.
  std::atomic<FileLocks*> held_locks{nullptr};
  std::vector<DirEntry> listing;  // of a directory, as of position 0
  bool listed = false;

 protected:
  /// The host file's position rules for a file of `size` bytes.
  ErrnoOr<int64_t> seek_within(int64_t offset, int whence, int64_t size);

 private:
  DentryPtr path_;
  std::shared_ptr<Inode> inode_;
  std::atomic<int> flags_;
  std::shared_ptr<Watches> watches_;  // null: nothing is told of it
  std::shared_ptr<void> hold_;
  bool runnable_ = true;
};

/// ETXTBSY: the regular file runs. What is given keeps it from being executed; null for others.
ErrnoOr<std::shared_ptr<void>> hold_for_writing(const std::shared_ptr<Inode>& inode);
/// ETXTBSY: somebody writes to it. What is given keeps it from being opened for writing.
ErrnoOr<std::shared_ptr<void>> hold_for_running(const std::shared_ptr<Inode>& inode);

/// A process's descriptors.
class FdTable {
 public:
  struct Slot {
    FilePtr file;
    bool close_on_exec = false;
  };
  FdTable() = default;
  FdTable(const FdTable&) = delete;
  FdTable& operator=(const FdTable&) = delete;
  ~FdTable();
  ErrnoOr<FilePtr> get(int fd) const;
  ErrnoOr<int> add(FilePtr file, bool close_on_exec, int lowest = 0);
  Errno put(int fd, FilePtr file, bool close_on_exec);  // dup2
  ErrnoOr<FilePtr> remove(int fd);
  ErrnoOr<bool> close_on_exec(int fd) const;
  Errno set_close_on_exec(int fd, bool on);
  /// EMFILE: no further one has room. Asked before something is done that could not be undone.
  Errno has_room() const;
  void close_range(unsigned first, unsigned last, bool mark_only);
  void close_for_exec();
  std::shared_ptr<FdTable> copy() const;
  std::vector<int> numbers() const;
  void set_limit(uint64_t limit);
  /// From now on a file that is closed loses the locks that its process has on it (fcntl(2)).
  void hold_locks(FileLocks& locks) { held_locks_.store(&locks); }

 private:
  void let_go(const FilePtr& closed) const;
  static constexpr size_t kHardLimit = 1 << 20;
  mutable std::mutex mutex_;
  std::vector<Slot> slots_;
  size_t limit_ = 1024;
  std::atomic<FileLocks*> held_locks_{nullptr};
};

}  // namespace fluyt::guest
