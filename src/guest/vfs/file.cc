#include "guest/vfs/file.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "guest/vfs/inode.h"
#include "guest/vfs/locks.h"

namespace fluyt::guest {

ErrnoOr<size_t> File::read(Caller& /*caller*/, std::span<std::byte> /*to*/, int64_t* /*offset*/) {
  return Errno(EINVAL);
}
ErrnoOr<size_t> File::write(Caller& /*caller*/, std::span<const std::byte> /*from*/,
                            int64_t* /*offset*/) {
  return Errno(EINVAL);
}
ErrnoOr<int64_t> File::seek(int64_t /*offset*/, int /*whence*/) { return Errno(ESPIPE); }
ErrnoOr<Stat> File::stat() { return inode_->stat(); }
uint32_t File::ready(uint32_t /*wanted*/) { return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM; }
ErrnoOr<uint64_t> File::ioctl(Caller& /*caller*/, uint32_t /*request*/, uint64_t /*argument*/) {
  return Errno(ENOTTY);
}
Errno File::truncate(int64_t /*size*/) { return Errno(EINVAL); }
Errno File::allocate(int /*mode*/, int64_t /*offset*/, int64_t /*length*/) { return Errno(ENODEV); }

ErrnoOr<int64_t> File::seek_within(int64_t offset, int whence, int64_t size) {
  int64_t base = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = position;
      break;
    case SEEK_END:
      base = size;
      break;
    case SEEK_DATA:
      if (offset < 0 || offset >= size) return Errno(ENXIO);
      break;
    case SEEK_HOLE:
      if (offset < 0 || offset >= size) return Errno(ENXIO);
      offset = size;
      break;
    default:
      return Errno(EINVAL);
  }
  int64_t to = 0;
  if (__builtin_add_overflow(base, offset, &to)) return Errno(EOVERFLOW);
  if (to < 0) return Errno(EINVAL);
  position = to;
  return to;
}

ErrnoOr<std::shared_ptr<void>> hold_for_writing(const std::shared_ptr<Inode>& inode) {
  if (inode->type() != S_IFREG) return std::shared_ptr<void>();
  if (!inode->identity().text_use.begin_writing()) return Errno(ETXTBSY);
  return std::shared_ptr<void>(inode.get(),
                               [inode](void*) { inode->identity().text_use.end_writing(); });
}

ErrnoOr<std::shared_ptr<void>> hold_for_running(const std::shared_ptr<Inode>& inode) {
  if (!inode->identity().text_use.begin_running()) return Errno(ETXTBSY);
  return std::shared_ptr<void>(inode.get(),
                               [inode](void*) { inode->identity().text_use.end_running(); });
}

void File::tell_opened(std::shared_ptr<Watches> watches) {
  if (!path_) return;
  watches_ = std::move(watches);
  tell(IN_OPEN);
}

File::~File() {
  tell(writable() ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
  if (FileLocks* locks = held_locks.load()) locks->release_all(this);
}

FdTable::~FdTable() {
  for (const Slot& slot : slots_) {
    if (!slot.file || (slot.file->flags() & O_PATH) != 0) continue;
    slot.file->closed();
    slot.file->ended_with(*this);
  }
  if (FileLocks* locks = held_locks_.load()) locks->release_all(this);
}

void FdTable::let_go(const FilePtr& closed) const {
  if (!closed || (closed->flags() & O_PATH) != 0) return;
  closed->closed();
  FileLocks* locks = held_locks_.load();
  if (locks == nullptr) return;
  const ErrnoOr<Stat> stat = closed->stat();
  if (stat.ok()) locks->release({stat.value().dev, stat.value().ino}, this);
}

ErrnoOr<FilePtr> FdTable::get(int fd) const {
  std::lock_guard lock(mutex_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size()) return Errno(EBADF);
  const FilePtr& file = slots_[static_cast<size_t>(fd)].file;
  if (!file) return Errno(EBADF);
  return file;
}

ErrnoOr<int> FdTable::add(FilePtr file, bool close_on_exec, int lowest) {
  std::lock_guard lock(mutex_);
  size_t at = static_cast<size_t>(lowest);
  while (at < slots_.size() && slots_[at].file) ++at;
  if (at >= limit_) return Errno(EMFILE);
  if (at >= slots_.size()) slots_.resize(at + 1);
  slots_[at] = {std::move(file), close_on_exec};
  return static_cast<int>(at);
}

Errno FdTable::has_room() const {
  std::lock_guard lock(mutex_);
  if (slots_.size() < limit_) return kOk;
  const auto end = slots_.begin() + static_cast<ptrdiff_t>(limit_);
  return std::any_of(slots_.begin(), end, [](const Slot& slot) { return !slot.file; })
             ? kOk
             : Errno(EMFILE);
}

Errno FdTable::put(int fd, FilePtr file, bool close_on_exec) {
  FilePtr before;  // closed outside the lock
  {
    std::lock_guard lock(mutex_);
    if (fd < 0 || static_cast<size_t>(fd) >= limit_) return Errno(EBADF);
    const auto at = static_cast<size_t>(fd);
    if (at >= slots_.size()) slots_.resize(at + 1);
    before = std::move(slots_[at].file);
    slots_[at] = {std::move(file), close_on_exec};
  }
  let_go(before);
  return kOk;
}

ErrnoOr<FilePtr> FdTable::remove(int fd) {
  FilePtr file;
  {
    std::lock_guard lock(mutex_);
    if (fd < 0 || static_cast<size_t>(fd) >= slots_.size()) return Errno(EBADF);
    file = std::move(slots_[static_cast<size_t>(fd)].file);
    slots_[static_cast<size_t>(fd)] = {};
  }
  if (!file) return Errno(EBADF);
  let_go(file);
  return file;
}

ErrnoOr<bool> FdTable::close_on_exec(int fd) const {
  std::lock_guard lock(mutex_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size()) return Errno(EBADF);
  if (!slots_[static_cast<size_t>(fd)].file) return Errno(EBADF);
  return slots_[static_cast<size_t>(fd)].close_on_exec;
}

Errno FdTable::set_close_on_exec(int fd, bool on) {
  std::lock_guard lock(mutex_);
  if (fd < 0 || static_cast<size_t>(fd) >= slots_.size()) return Errno(EBADF);
  if (!slots_[static_cast<size_t>(fd)].file) return Errno(EBADF);
  slots_[static_cast<size_t>(fd)].close_on_exec = on;
  return kOk;
}

void FdTable::close_range(unsigned first, unsigned last, bool mark_only) {
  std::vector<FilePtr> closed;
  {
    std::lock_guard lock(mutex_);
    for (size_t at = first; at < slots_.size() && at <= last; ++at) {
      if (!slots_[at].file) continue;
      if (mark_only) {
        slots_[at].close_on_exec = true;
      } else {
        closed.push_back(std::move(slots_[at].file));
        slots_[at] = {};
      }
    }
  }
  for (const FilePtr& file : closed) let_go(file);
}

void FdTable::close_for_exec() {
  std::vector<FilePtr> closed;
  {
    std::lock_guard lock(mutex_);
    for (Slot& slot : slots_) {
      if (!slot.file || !slot.close_on_exec) continue;
      closed.push_back(std::move(slot.file));
      slot = {};
    }
  }
  for (const FilePtr& file : closed) let_go(file);
}

std::shared_ptr<FdTable> FdTable::copy() const {
  auto made = std::make_shared<FdTable>();
  std::lock_guard lock(mutex_);
  made->slots_ = slots_;
  made->limit_ = limit_;
  return made;
}

std::vector<int> FdTable::numbers() const {
  std::vector<int> out;
  std::lock_guard lock(mutex_);
  for (size_t at = 0; at < slots_.size(); ++at)
    if (slots_[at].file) out.push_back(static_cast<int>(at));
  return out;
}

void FdTable::set_limit(uint64_t limit) {
  std::lock_guard lock(mutex_);
  limit_ = static_cast<size_t>(std::min<uint64_t>(limit, kHardLimit));
}

}  // namespace fluyt::guest
