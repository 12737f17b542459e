#include "guest/fs/charged_memory.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "guest/fs/devices.h"
#include "guest/platform/host/io.h"

namespace fluyt::guest {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kBlock = 512;
uint64_t page_up(uint64_t bytes) { return (bytes + kPage - 1) & ~(kPage - 1); }

/// Memory without a name that processes share.
class SharedMemory final : public File {
 public:
  SharedMemory(InodePtr inode, std::unique_ptr<ChargedMemory> memory)
      : File(nullptr, std::move(inode), O_RDWR), memory_(std::move(memory)) {}
  ErrnoOr<int> host_descriptor() override { return memory_->map(); }
  std::string describe() const override { return "/dev/zero (deleted)"; }

 private:
  std::unique_ptr<ChargedMemory> memory_;
};

}  // namespace

ErrnoOr<std::unique_ptr<ChargedMemory>> ChargedMemory::create(const char* name,
                                                              const MemoryCharge& to) {
  auto out = std::make_unique<ChargedMemory>(to);
  if (!out->descriptor_.set(1)) return Errno(ENFILE);
  out->memory_ = GUEST_TRY(host::make_memory(name));
  return out;
}

ErrnoOr<Stat> ChargedMemory::stat() const { return host::stat(memory_); }
ErrnoOr<size_t> ChargedMemory::read(std::span<std::byte> to, int64_t offset) const {
  return host::read_at(memory_, to, offset);
}
ErrnoOr<int64_t> ChargedMemory::seek(int64_t offset, int whence) const {
  return host::seek(memory_, offset, whence);
}

/// What it has now. Never more than what was charged for before.
Errno ChargedMemory::recount() {
  const Stat now = GUEST_TRY(host::stat(memory_));
  const uint64_t blocks = static_cast<uint64_t>(now.blocks) * kBlock;
  const uint64_t size = page_up(static_cast<uint64_t>(now.size));
  solid_ = std::min(solid_, static_cast<uint64_t>(now.size));
  (void)charge_.set(is_mapped_ ? std::max(blocks, size) : blocks);
  return kOk;
}

ErrnoOr<size_t> ChargedMemory::write(std::span<const std::byte> from, int64_t offset) {
  if (offset < 0) return Errno(EINVAL);
  if (from.empty()) return size_t{0};
  std::lock_guard lock(mutex_);
  const auto begin = static_cast<uint64_t>(offset);
  uint64_t end = begin + from.size();
  const bool extends = begin <= solid_;
  // Pages that it may lack.
  const uint64_t first = extends ? page_up(solid_) : begin & ~(kPage - 1);
  const uint64_t before = charge_.amount();
  const auto more = [&] { return page_up(end) > first ? page_up(end) - first : 0; };
  if (!charge_.set(before + more())) {
    const uint64_t room = charge_.left() & ~(kPage - 1);
    end = std::min(end, first + room);
    if (end <= begin || !charge_.set(before + more())) return Errno(ENOSPC);
  }
  const ErrnoOr<size_t> done =
      host::write_at(memory_, from.first(static_cast<size_t>(end - begin)), offset);
  if (extends && done.ok() && begin + done.value() == end && !is_mapped_) {
    // What was behind the solid part may have had pages already.
    const bool had_holes = before > page_up(solid_);
    solid_ = std::max(solid_, end);
    if (!had_holes) return done;
  }
  GUEST_TRY(recount());
  return done;
}

Errno ChargedMemory::truncate(int64_t size) {
  std::lock_guard lock(mutex_);
  const uint64_t wanted = page_up(static_cast<uint64_t>(size));
  if (is_mapped_ && wanted > charge_.amount() && !charge_.set(wanted)) return Errno(ENOSPC);
  GUEST_TRY(host::truncate(memory_, size));
  return recount();
}

Errno ChargedMemory::allocate(int mode, int64_t offset, int64_t length) {
  std::lock_guard lock(mutex_);
  const bool frees = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  if (frees) solid_ = std::min(solid_, static_cast<uint64_t>(offset));
  // EFBIG is the host's to say.
  int64_t end = 0;
  if (!frees && !__builtin_add_overflow(offset, length, &end)) {
    const uint64_t more =
        page_up(static_cast<uint64_t>(end)) - (static_cast<uint64_t>(offset) & ~(kPage - 1));
    if (!charge_.set(charge_.amount() + more)) return Errno(ENOSPC);
  }
  const Errno done = host::allocate(memory_, mode, offset, length);
  GUEST_TRY(recount());
  return done;
}

ErrnoOr<int> ChargedMemory::map() {
  std::lock_guard lock(mutex_);
  if (!is_mapped_) {
    const Stat now = GUEST_TRY(host::stat(memory_));
    const uint64_t size = page_up(static_cast<uint64_t>(now.size));
    if (size > charge_.amount() && !charge_.set(size)) return Errno(ENOMEM);
    is_mapped_ = true;
  }
  return memory_.raw();
}

ErrnoOr<FilePtr> make_shared_memory(uint64_t length, const MemoryCharge& to) {
  if (length > uint64_t{1} << 47) return Errno(ENOMEM);
  std::unique_ptr<ChargedMemory> memory = GUEST_TRY(ChargedMemory::create("guest-shared", to));
  GUEST_TRY(memory->truncate(static_cast<int64_t>(page_up(length))));
  auto file =
      std::make_shared<SharedMemory>(make_anonymous_inode(S_IFREG | 0600, 0), std::move(memory));
  GUEST_TRY(file->host_descriptor());
  return FilePtr(std::move(file));
}

}  // namespace fluyt::guest
