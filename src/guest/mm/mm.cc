#include "guest/mm/mm.h"

#include <sys/mman.h>

#include <algorithm>

#include "guest/vfs/inode.h"

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 3
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#define MAP_HUGE_1GB (30 << 26)
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_MAYMOVE
#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED 2
#endif

namespace fluyt::guest {
namespace {

constexpr size_t kMaxAreas = 65530;  // vm.max_map_count
uint64_t page_up(uint64_t value) { return (value + kPageSize - 1) & ~(kPageSize - 1); }

bool same_kind(const Mm::Area& a, const Mm::Area& b) {
  return a.protection == b.protection && a.shared == b.shared && a.file == b.file &&
         a.name == b.name && a.may_write == b.may_write && a.may_run == b.may_run &&
         a.hold == b.hold;
}

}  // namespace

ErrnoOr<std::shared_ptr<Mm>> Mm::create(Platform& platform) {
  std::unique_ptr<AddressSpace> space = GUEST_TRY(platform.create_address_space());
  auto mm = std::make_shared<Mm>(std::move(space));
  mm->clock_pages_ = platform.clock_pages();
  return mm;
}

void Mm::split_locked(uint64_t at) {
  auto area = areas_.lower_bound(at);
  if (area == areas_.begin()) return;
  --area;
  if (area->second.end <= at || area->first == at) return;
  Area tail = area->second;
  tail.offset += at - area->first;
  area->second.end = at;
  areas_.emplace(at, std::move(tail));
}

void Mm::erase_locked(uint64_t address, uint64_t end, Areas& gone) {
  split_locked(address);
  split_locked(end);
  for (auto at = areas_.lower_bound(address); at != areas_.end() && at->first < end;)
    gone.insert(areas_.extract(at++));
}

void Mm::erase(uint64_t address, uint64_t end) {
  Areas gone;
  std::lock_guard lock(areas_lock_);
  erase_locked(address, end, gone);
}

void Mm::insert(uint64_t address, Area area) {
  Areas gone;
  std::lock_guard lock(areas_lock_);
  insert_locked(address, std::move(area), gone);
}

void Mm::insert_locked(uint64_t address, Area area, Areas& gone) {
  erase_locked(address, area.end, gone);
  auto at = areas_.emplace(address, std::move(area)).first;
  if (at != areas_.begin()) {
    auto before = std::prev(at);
    if (before->second.end == address && same_kind(before->second, at->second) &&
        (!at->second.file ||
         before->second.offset + (address - before->first) == at->second.offset)) {
      before->second.end = at->second.end;
      areas_.erase(at);
      at = before;
    }
  }
  auto after = std::next(at);
  if (after != areas_.end() && after->first == at->second.end &&
      same_kind(at->second, after->second) &&
      (!at->second.file ||
       at->second.offset + (after->first - at->first) == after->second.offset)) {
    at->second.end = after->second.end;
    areas_.erase(after);
  }
}

bool Mm::is_free(uint64_t address, uint64_t length) {
  if (address < kGuestBottom || length > kGuestTop || address > kGuestTop - length) return false;
  auto after = areas_.lower_bound(address);
  if (after != areas_.end() && after->first < address + length) return false;
  return after == areas_.begin() || std::prev(after)->second.end <= address;
}

bool Mm::covers(uint64_t address, uint64_t end) {
  auto at = areas_.upper_bound(address);
  if (at == areas_.begin()) return false;
  --at;
  while (address < end) {
    if (at == areas_.end() || at->first > address || at->second.end <= address) return false;
    address = at->second.end;
    ++at;
  }
  return true;
}

uint64_t Mm::find_gap(uint64_t length) {
  uint64_t end = map_base_;
  for (auto at = areas_.upper_bound(map_base_);;) {
    const uint64_t floor = at == areas_.begin() ? kGuestBottom : std::prev(at)->second.end;
    if (floor < end && end - floor >= length) return end - length;
    if (at == areas_.begin()) break;
    --at;
    end = std::min(end, at->first);
  }
  // Above the base, as a last resort.
  uint64_t start = map_base_;
  for (auto at = areas_.lower_bound(start); at != areas_.end(); ++at) {
    if (at->first > start && at->first - start >= length) return start;
    start = std::max(start, at->second.end);
  }
  return kGuestTop - start >= length && start < kGuestTop ? start : 0;
}

namespace {
// Where MAP_32BIT maps (mmap(2)).
constexpr uint64_t kLowBottom = 0x40000000;
constexpr uint64_t kLowTop = 0x80000000;
}  // namespace

uint64_t Mm::find_low_gap(uint64_t length) {
  uint64_t start = kLowBottom;
  if (const auto at = areas_.upper_bound(start); at != areas_.begin())
    start = std::max(start, std::prev(at)->second.end);
  for (auto at = areas_.lower_bound(start); at != areas_.end() && at->first < kLowTop; ++at) {
    if (at->first - start >= length) break;
    start = at->second.end;
  }
  return start <= kLowTop && kLowTop - start >= length ? start : 0;
}

ErrnoOr<uint64_t> Mm::map(uint64_t address, uint64_t length, int protection, int flags,
                          const FilePtr& file, uint64_t offset, const char* name) {
  if (length == 0 || offset % kPageSize != 0) return Errno(EINVAL);
  if (length > kGuestTop) return Errno(ENOMEM);
  length = page_up(length);
  if (offset + length < offset) return Errno(EOVERFLOW);
  const int kind = flags & 0xf;
  const bool shared = kind == MAP_SHARED || kind == MAP_SHARED_VALIDATE;
  if (!shared && kind != MAP_PRIVATE) return Errno(EINVAL);
  constexpr int kAlwaysKnown = 0xf | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE | MAP_EXECUTABLE |
                               MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE |
                               MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB | MAP_32BIT |
                               0x80 /* MAP_ABOVE4G */ | MAP_HUGE_2MB | MAP_HUGE_1GB;
  if (kind == MAP_SHARED_VALIDATE && (flags & ~kAlwaysKnown) != 0) return Errno(EOPNOTSUPP);

  Mapping mapping;
  mapping.length = length;
  mapping.protection = protection & (PROT_READ | PROT_WRITE | PROT_EXEC);
  Area area;
  area.protection = mapping.protection;
  area.shared = shared;
  area.name = name;
  const bool anonymous = (flags & MAP_ANONYMOUS) != 0 || (file && file->maps_anonymous());
  if (!anonymous) {
    if (!file) return Errno(EBADF);
    if (!file->readable()) return Errno(EACCES);
    if (shared && (protection & PROT_WRITE) != 0 && !file->writable()) return Errno(EACCES);
    mapping.host_fd = GUEST_TRY(file->host_descriptor());
    if (file->inode()->is_dir()) return Errno(ENODEV);
    if (!file->runnable() && (protection & PROT_EXEC) != 0) return Errno(EPERM);
    area.may_run = file->runnable();
    if (shared) {
      File::SharedUse use = GUEST_TRY(file->map_shared((protection & PROT_WRITE) != 0));
      area.may_write = use.may_write;
      area.hold = std::move(use.hold);
    }
    mapping.backing = shared ? Backing::kSharedFile : Backing::kPrivateFile;
    mapping.offset = offset;
    area.file = file;
    area.offset = offset;
  } else if (shared) {
    return Errno(EINVAL);  // memory that processes share is a file here: make_shared_memory
  }

  std::lock_guard lock(changes_);
  if (areas_.size() >= kMaxAreas) return Errno(ENOMEM);
  if ((flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0) {
    if (address % kPageSize != 0) return Errno(EINVAL);
    if (address < kGuestBottom) return Errno(EPERM);
    if (address > kGuestTop - length) return Errno(ENOMEM);
    if ((flags & MAP_FIXED_NOREPLACE) != 0 && !is_free(address, length)) return Errno(EEXIST);
  } else {
    address = page_up(address);
    const bool low = (flags & MAP_32BIT) != 0;
    if (address == 0 || !is_free(address, length) ||
        (low && (length > kLowTop || address > kLowTop - length)))
      address = low ? find_low_gap(length) : find_gap(length);
    if (address == 0) return Errno(ENOMEM);
  }
  mapping.address = address;
  GUEST_TRY(space_->map(mapping));
  area.end = address + length;
  insert(address, std::move(area));
  return address;
}

Errno Mm::unmap(uint64_t address, uint64_t length) {
  if (address % kPageSize != 0 || length == 0 || length > kGuestTop) return Errno(EINVAL);
  length = page_up(length);
  if (address > kGuestTop - length) return Errno(EINVAL);
  if (address < kGuestBottom) {  // nothing is ever mapped there
    if (address + length <= kGuestBottom) return kOk;
    length -= kGuestBottom - address;
    address = kGuestBottom;
  }
  std::lock_guard lock(changes_);
  GUEST_TRY(space_->unmap(address, length));
  erase(address, address + length);
  return kOk;
}

Errno Mm::protect(uint64_t address, uint64_t length, int protection) {
  if (address % kPageSize != 0) return Errno(EINVAL);
  if ((protection & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0) return Errno(EINVAL);
  if (length == 0) return kOk;
  length = page_up(length);
  if (length == 0 || address + length < address) return Errno(ENOMEM);
  const uint64_t end = address + length;
  std::lock_guard lock(changes_);
  if (!covers(address, end)) return Errno(ENOMEM);
  {
    std::lock_guard areas(areas_lock_);
    split_locked(address);
    split_locked(end);
  }
  for (auto at = areas_.lower_bound(address); at != areas_.end() && at->first < end; ++at)
    if ((at->second.shared && (protection & PROT_WRITE) != 0 && !at->second.may_write) ||
        ((protection & PROT_EXEC) != 0 && !at->second.may_run))
      return Errno(EACCES);
  GUEST_TRY(space_->protect(address, length, protection));
  std::vector<std::pair<uint64_t, Area>> changed;
  for (auto at = areas_.lower_bound(address); at != areas_.end() && at->first < end; ++at)
    changed.emplace_back(at->first, at->second);
  // All at once: nobody sees half of it.
  Areas gone;
  std::lock_guard areas(areas_lock_);
  for (auto& [start, area] : changed) {
    area.protection = protection;
    insert_locked(start, std::move(area), gone);
  }
  return kOk;
}

ErrnoOr<uint64_t> Mm::remap(uint64_t address, uint64_t old_length, uint64_t new_length, int flags,
                            uint64_t new_address) {
  if (address % kPageSize != 0 || new_length == 0) return Errno(EINVAL);
  if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) != 0) return Errno(EINVAL);
  const bool fixed = (flags & MREMAP_FIXED) != 0;
  if (fixed && (flags & MREMAP_MAYMOVE) == 0) return Errno(EINVAL);
  if (old_length > kGuestTop || new_length > kGuestTop) return Errno(ENOMEM);
  old_length = page_up(old_length);
  new_length = page_up(new_length);
  if (old_length == 0) return Errno(EINVAL);  // a second mapping of shared pages: not had
  if (fixed && (new_address % kPageSize != 0 || new_address < kGuestBottom ||
                new_address > kGuestTop - new_length ||
                (new_address < address + old_length && address < new_address + new_length)))
    return Errno(EINVAL);
  std::lock_guard lock(changes_);
  auto at = areas_.upper_bound(address);
  if (at == areas_.begin()) return Errno(EFAULT);
  --at;
  if (at->second.end < address + old_length || at->first > address) return Errno(EFAULT);
  Area area = at->second;
  area.offset += address - at->first;
  if (!fixed && new_length <= old_length) {
    if (new_length < old_length) {
      GUEST_TRY(space_->unmap(address + new_length, old_length - new_length));
      erase(address + new_length, address + old_length);
    }
    return address;
  }
  if (!fixed && is_free(address + old_length, new_length - old_length) &&
      space_->move(address, old_length, address, new_length).ok()) {
    area.end = address + new_length;
    insert(address, std::move(area));
    return address;
  }
  if ((flags & MREMAP_MAYMOVE) == 0) return Errno(ENOMEM);
  const uint64_t to = fixed ? new_address : find_gap(new_length);
  if (to == 0) return Errno(ENOMEM);
  if (new_length < old_length) {
    GUEST_TRY(space_->unmap(address + new_length, old_length - new_length));
    erase(address + new_length, address + old_length);
    old_length = new_length;
  }
  GUEST_TRY(space_->move(address, old_length, to, new_length));
  area.end = to + new_length;
  Areas gone;
  std::lock_guard areas(areas_lock_);
  erase_locked(address, address + old_length, gone);
  insert_locked(to, std::move(area), gone);
  return to;
}

Errno Mm::check_mapped(uint64_t address, uint64_t length) {
  std::lock_guard lock(areas_lock_);
  if (address + length < address) return Errno(ENOMEM);
  return length == 0 || covers(address, address + length) ? kOk : Errno(ENOMEM);
}

Errno Mm::advise(uint64_t address, uint64_t length, int advice) {
  if (address % kPageSize != 0) return Errno(EINVAL);
  length = page_up(length);
  if (length == 0) return kOk;
  if (address + length < address) return Errno(EINVAL);
  switch (advice) {
    case 0:
    case 1:
    case 2:
    case 3:  // NORMAL, RANDOM, SEQUENTIAL, WILLNEED
    case 12:
    case 13:
    case 16:
    case 17:
    case 20:
    case 21:  // (UN)MERGEABLE, (DO)DUMP, COLD, PAGEOUT
      return check_mapped(address, length);
    case 4:
    case 8:
    case 9:
    case 10:
    case 11:
    case 14:
    case 15:
    case 18:
    case 19:
    case 22:
    case 23:
      break;  // DONTNEED, FREE, REMOVE, (DONT)FORK, (NO)HUGEPAGE, WIPE, KEEP, POPULATE
    default:
      return Errno(EINVAL);
  }
  std::lock_guard lock(changes_);
  if (!covers(address, address + length)) return Errno(ENOMEM);
  return space_->advise(address, length, advice);
}

Errno Mm::keep_page_tables() {
  std::lock_guard lock(changes_);
  if (!is_free(map_base_, kPageSize)) return kOk;
  Mapping page;
  page.address = map_base_;
  page.length = kPageSize;
  page.protection = PROT_NONE;
  return space_->map(page);
}

void Mm::start_break(uint64_t address) {
  std::lock_guard lock(changes_);
  break_start_ = break_ = address;
}

uint64_t Mm::set_break(uint64_t address) {
  std::lock_guard lock(changes_);
  if (address < break_start_ || address > kGuestTop) return break_;
  const uint64_t old_end = page_up(break_);
  const uint64_t new_end = page_up(address);
  if (new_end > old_end) {
    if (!is_free(old_end, new_end - old_end)) return break_;
    Mapping mapping;
    mapping.address = old_end;
    mapping.length = new_end - old_end;
    mapping.protection = PROT_READ | PROT_WRITE;
    if (!space_->map(mapping).ok()) return break_;
    Area area;
    area.end = new_end;
    area.protection = mapping.protection;
    area.name = "[heap]";
    insert(old_end, std::move(area));
  } else if (new_end < old_end) {
    if (!space_->unmap(new_end, old_end - new_end).ok()) return break_;
    erase(new_end, old_end);
  }
  break_ = address;
  return break_;
}

ErrnoOr<std::pair<std::shared_ptr<Mm>, std::unique_ptr<Context>>> Mm::fork(
    const ThreadImage& image) {
  std::lock_guard lock(changes_);
  AddressSpace::Forked forked = GUEST_TRY(space_->fork(image));
  auto child = std::make_shared<Mm>(std::move(forked.memory));
  child->areas_ = areas_;
  child->break_start_ = break_start_;
  child->break_ = break_;
  child->program_ = program_;
  child->map_base_ = map_base_;
  child->layout = layout;
  child->barriers = barriers.load();
  child->clock_pages_ = clock_pages_;
  return std::pair(std::move(child), std::move(forked.context));
}

Mm::SharedPlace Mm::place_of(uint64_t address) {
  std::lock_guard lock(areas_lock_);
  auto at = areas_.upper_bound(address);
  if (at == areas_.begin()) return {this, address};
  --at;
  if (at->second.end <= address || !at->second.shared || !at->second.file) return {this, address};
  return {&at->second.file->inode()->identity(), at->second.offset + (address - at->first)};
}

std::vector<FilePtr> Mm::shared_files(uint64_t address, uint64_t end) {
  std::vector<FilePtr> out;
  std::lock_guard lock(areas_lock_);
  auto at = areas_.upper_bound(address);
  if (at != areas_.begin()) --at;
  for (; at != areas_.end() && at->first < end; ++at)
    if (at->second.end > address && at->second.shared && at->second.file &&
        (out.empty() || out.back() != at->second.file))
      out.push_back(at->second.file);
  return out;
}

std::map<uint64_t, Mm::Area> Mm::areas() {
  std::lock_guard lock(areas_lock_);
  std::map<uint64_t, Area> out = areas_;
  if (clock_pages_.library != 0) {
    Area pages;
    pages.protection = PROT_READ;
    pages.end = clock_pages_.library;
    pages.name = "[vvar]";
    out.emplace(clock_pages_.start, pages);
    pages.protection = PROT_READ | PROT_EXEC;
    pages.end = clock_pages_.end;
    pages.name = "[vdso]";
    out.emplace(clock_pages_.library, std::move(pages));
  }
  return out;
}

uint64_t Mm::data_bytes() {
  std::lock_guard lock(areas_lock_);
  uint64_t sum = 0;
  for (const auto& [start, area] : areas_)
    if (!area.shared && (area.protection & PROT_WRITE) != 0 && area.name != "[stack]")
      sum += area.end - start;
  return sum;
}

Mm::Sizes Mm::sizes() {
  Sizes out;
  out.data = data_bytes();
  std::lock_guard lock(areas_lock_);
  for (const auto& [start, area] : areas_) {
    const uint64_t size = area.end - start;
    out.mapped += size;
    if (area.protection != PROT_NONE) {
      out.usable += size;
      if (area.file) out.of_files += size;
    }
    if (area.name == "[stack]") out.stack += size;
  }
  return out;
}

uint64_t Mm::mapped_bytes() {
  std::lock_guard lock(areas_lock_);
  uint64_t sum = 0;
  for (const auto& [start, area] : areas_) sum += area.end - start;
  return sum;
}

}  // namespace fluyt::guest
