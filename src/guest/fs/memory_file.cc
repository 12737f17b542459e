#include "guest/fs/memory_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/fs/attributes.h"
#include "guest/fs/charged_memory.h"
#include "guest/fs/devices.h"

namespace fluyt::guest {
namespace {

constexpr uint32_t kAllSeals =
    kSealSeal | kSealShrink | kSealGrow | kSealWrite | kSealFutureWrite | kSealExec;
constexpr int64_t kPage = 4096;

/// The memory, and what it is sealed against. Every change looks at the seals with the lock held,
/// so that none is under way when a seal is there.
class MemoryInode final : public Inode {
 public:
  MemoryInode(const MemoryFileRequest& request, std::unique_ptr<ChargedMemory> memory)
      : name(request.name), memory_(std::move(memory)), seals_(request.seals) {
    static std::atomic<uint64_t> next{1};
    stat_.dev = make_device(0, 1);
    stat_.ino = next.fetch_add(1);
    stat_.mode = S_IFREG | request.mode;
    stat_.uid = request.uid;
    stat_.gid = request.gid;
    stat_.nlink = 0;
    stat_.accessed = stat_.modified = stat_.changed = now();
  }

  uint32_t type() const override { return S_IFREG; }
  ErrnoOr<Stat> stat() override {
    std::lock_guard lock(mutex_);
    const Stat memory = GUEST_TRY(memory_->stat());
    Stat out = stat_;
    out.size = memory.size;
    out.blocks = memory.blocks;
    return out;
  }
  Errno set_attributes(const SetAttributes& change) override {
    std::lock_guard lock(mutex_);
    if (change.mode && (seals_ & kSealExec) != 0 && ((*change.mode ^ stat_.mode) & 0111) != 0)
      return Errno(EPERM);
    apply(change, stat_);
    return kOk;
  }
  Errno truncate(int64_t size) override {
    std::lock_guard lock(mutex_);
    const Stat memory = GUEST_TRY(memory_->stat());
    if (size < memory.size && (seals_ & kSealShrink) != 0) return Errno(EPERM);
    if (size > memory.size && (seals_ & kSealGrow) != 0) return Errno(EPERM);
    GUEST_TRY(memory_->truncate(size));
    touch();
    return kOk;
  }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override;

  ErrnoOr<size_t> write(std::span<const std::byte> from, int64_t& offset, bool append) {
    std::lock_guard lock(mutex_);
    if ((seals_ & (kSealWrite | kSealFutureWrite)) != 0) return Errno(EPERM);
    if (append || (seals_ & kSealGrow) != 0) {
      const Stat memory = GUEST_TRY(memory_->stat());
      if (append) offset = memory.size;
      if ((seals_ & kSealGrow) != 0 &&
          static_cast<int64_t>(from.size()) > memory.size - std::min(offset, memory.size)) {
        // Page by page, as far as it does not grow.
        const int64_t fits = (memory.size & ~(kPage - 1)) - offset;
        if (fits <= 0) return Errno(EPERM);
        from = from.first(static_cast<size_t>(fits));
      }
    }
    const size_t done = GUEST_TRY(memory_->write(from, offset));
    offset += static_cast<int64_t>(done);
    touch();
    return done;
  }
  Errno allocate(int mode, int64_t offset, int64_t length) {
    std::lock_guard lock(mutex_);
    if ((mode & FALLOC_FL_PUNCH_HOLE) != 0) {
      if ((seals_ & (kSealWrite | kSealFutureWrite)) != 0) return Errno(EPERM);
    } else if ((seals_ & kSealGrow) != 0) {
      const Stat memory = GUEST_TRY(memory_->stat());
      if (offset > memory.size || length > memory.size - offset) return Errno(EPERM);
    }
    GUEST_TRY(memory_->allocate(mode, offset, length));
    touch();
    return kOk;
  }

  ErrnoOr<File::SharedUse> map_shared(bool file_writable, bool writes) {
    std::lock_guard lock(mutex_);
    if ((seals_ & (kSealWrite | kSealFutureWrite)) != 0) {
      if (writes) return Errno(EPERM);
      return File::SharedUse{};
    }
    if (!file_writable) return File::SharedUse{};
    std::shared_ptr<void> hold = writable_use_.lock();
    if (!hold) {
      hold = std::make_shared<char>();
      writable_use_ = hold;
    }
    return File::SharedUse{true, std::move(hold)};
  }
  uint32_t seals() {
    std::lock_guard lock(mutex_);
    return seals_;
  }
  Errno add_seals(uint32_t more) {
    if ((more & ~kAllSeals) != 0) return Errno(EINVAL);
    std::lock_guard lock(mutex_);
    if ((seals_ & kSealSeal) != 0) return Errno(EPERM);
    // What may be executed must not change under who does.
    if ((more & kSealExec) != 0 && (stat_.mode & 0111) != 0)
      more |= kSealShrink | kSealGrow | kSealWrite | kSealFutureWrite;
    if ((more & kSealWrite & ~seals_) != 0 && !writable_use_.expired()) return Errno(EBUSY);
    seals_ |= more;
    return kOk;
  }

  ChargedMemory& memory() { return *memory_; }
  const std::string name;

 private:
  void touch() { stat_.modified = stat_.changed = now(); }

  std::mutex mutex_;
  const std::unique_ptr<ChargedMemory> memory_;
  uint32_t seals_;
  Stat stat_;
  std::weak_ptr<void> writable_use_;  // shared mappings that are written through, or may be
};

class MemoryFile final : public File {
 public:
  MemoryFile(DentryPtr path, std::shared_ptr<MemoryInode> inode, int flags)
      : File(std::move(path), inode, flags), memory_(std::move(inode)) {}
  ErrnoOr<size_t> read(Caller& /*caller*/, std::span<std::byte> to, int64_t* offset) override {
    const size_t done = GUEST_TRY(memory_->memory().read(to, *offset));
    *offset += static_cast<int64_t>(done);
    return done;
  }
  ErrnoOr<size_t> write(Caller& /*caller*/, std::span<const std::byte> from,
                        int64_t* offset) override {
    return memory_->write(from, *offset, appending());
  }
  bool seekable() const override { return true; }
  ErrnoOr<int64_t> seek(int64_t offset, int whence) override {
    if (whence == SEEK_DATA || whence == SEEK_HOLE) {
      position = GUEST_TRY(memory_->memory().seek(offset, whence));
      return position;
    }
    const Stat stat = GUEST_TRY(memory_->memory().stat());
    return seek_within(offset, whence, stat.size);
  }
  Errno truncate(int64_t size) override { return memory_->truncate(size); }
  Errno allocate(int mode, int64_t offset, int64_t length) override {
    return memory_->allocate(mode, offset, length);
  }
  ErrnoOr<int> host_descriptor() override { return memory_->memory().map(); }
  ErrnoOr<SharedUse> map_shared(bool writes) override {
    return memory_->map_shared(writable(), writes);
  }
  ErrnoOr<uint32_t> seals() override { return memory_->seals(); }
  Errno add_seals(uint32_t more) override {
    return writable() ? memory_->add_seals(more) : Errno(EPERM);
  }
  std::string describe() const override { return "/memfd:" + memory_->name + " (deleted)"; }

 private:
  std::shared_ptr<MemoryInode> memory_;
};

ErrnoOr<FilePtr> MemoryInode::open(DentryPtr path, int flags) {
  return FilePtr(std::make_shared<MemoryFile>(
      std::move(path), std::static_pointer_cast<MemoryInode>(shared_from_this()), flags));
}

}  // namespace

ErrnoOr<FilePtr> make_memory_file(const MemoryFileRequest& request) {
  std::unique_ptr<ChargedMemory> memory =
      GUEST_TRY(ChargedMemory::create("guest-memfd", request.charge));
  auto inode = std::make_shared<MemoryInode>(request, std::move(memory));
  return inode->open(nullptr, O_RDWR);
}

}  // namespace fluyt::guest
