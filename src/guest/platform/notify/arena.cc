#include "guest/platform/notify/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <utility>

#include "guest/stub/layout.h"

namespace fluyt::guest {
namespace {

// Of which one container gets half.
constexpr uint32_t kMaxProcesses = 65536;
constexpr uint32_t kMaxThreads = 131072;
constexpr uint64_t kRequestsStart = STUB_SLOT_SIZE;  // after the boot page
constexpr uint64_t kSlotsStart = kRequestsStart + uint64_t{kMaxProcesses} * STUB_PAGE_SIZE;
constexpr uint64_t kSize = kSlotsStart + uint64_t{kMaxThreads} * STUB_SLOT_SIZE;

}  // namespace

Result<Arena> Arena::create() {
  sys::Fd fd(memfd_create("guest-arena", MFD_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "memfd_create(guest-arena)");
  if (ftruncate(fd.raw(), static_cast<off_t>(kSize)) != 0)
    return Error::from_errno(errno, "ftruncate(guest-arena)");
  void* base =
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.raw(), 0);
  if (base == MAP_FAILED) return Error::from_errno(errno, "mmap(guest-arena)");
  return Arena(std::move(fd), static_cast<std::byte*>(base));
}

Arena::Arena(sys::Fd fd, std::byte* base)
    : fd_(std::move(fd)),
      base_(base),
      all_processes_(std::make_shared<Quota>(kMaxProcesses)),
      all_slots_(std::make_shared<Quota>(kMaxThreads)) {
  requests_.limit = kMaxProcesses;
  slots_.limit = kMaxThreads;
}

Arena::Arena(Arena&& other) noexcept
    : fd_(std::move(other.fd_)),
      base_(std::exchange(other.base_, nullptr)),
      requests_(std::move(other.requests_)),
      slots_(std::move(other.slots_)),
      all_processes_(std::move(other.all_processes_)),
      all_slots_(std::move(other.all_slots_)) {}

Arena::~Arena() {
  if (base_ != nullptr) munmap(base_, kSize);
}

uint64_t Arena::request_offset(uint32_t index) {
  return kRequestsStart + uint64_t{index} * STUB_PAGE_SIZE;
}
uint64_t Arena::slot_offset(uint32_t index) {
  return kSlotsStart + uint64_t{index} * STUB_SLOT_SIZE;
}

StubShare Arena::make_share(std::shared_ptr<Quota> descriptors) const {
  return {Quota::share_of(all_processes_), Quota::share_of(all_slots_), std::move(descriptors)};
}

ErrnoOr<uint32_t> Arena::take(Pieces& pieces) {
  std::lock_guard lock(mutex_);
  if (!pieces.free.empty()) {
    const uint32_t index = pieces.free.back();
    pieces.free.pop_back();
    return index;
  }
  if (pieces.next == pieces.limit) return Errno(EAGAIN);
  return pieces.next++;
}

void Arena::give(Pieces& pieces, uint32_t index, uint64_t offset, uint64_t size) {
  // What one guest process left in its frames is not for the next one to read.
  const bool zeroed = fallocate(fd_.raw(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                static_cast<off_t>(offset), static_cast<off_t>(size)) == 0;
  if (!zeroed) return;  // lost to us rather than shown to another
  std::lock_guard lock(mutex_);
  pieces.free.push_back(index);
}

ErrnoOr<uint32_t> Arena::take_request() { return take(requests_); }
ErrnoOr<uint32_t> Arena::take_slot() { return take(slots_); }
void Arena::give_request(uint32_t index) {
  give(requests_, index, request_offset(index), STUB_PAGE_SIZE);
}
void Arena::give_slot(uint32_t index) { give(slots_, index, slot_offset(index), STUB_SLOT_SIZE); }

}  // namespace fluyt::guest
