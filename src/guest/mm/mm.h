#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "guest/platform/platform.h"
#include "guest/vfs/file.h"

namespace fluyt::guest {

/// A guest address space: what is mapped where, as the guest asked for it. The platform's mappings
/// follow it under one lock, so that the two always agree. Who only looks never waits for the
/// platform, whose calls take as long as a stub is halted: what is seen is from before the change
/// that is under way.
class Mm {
 public:
  static ErrnoOr<std::shared_ptr<Mm>> create(Platform& platform);
  Mm(std::unique_ptr<AddressSpace> space) : space_(std::move(space)) {}
  Mm(const Mm&) = delete;
  Mm& operator=(const Mm&) = delete;

  AddressSpace& space() { return *space_; }

  ErrnoOr<uint64_t> map(uint64_t address, uint64_t length, int protection, int flags,
                        const FilePtr& file, uint64_t offset, const char* name = "");
  Errno unmap(uint64_t address, uint64_t length);
  Errno protect(uint64_t address, uint64_t length, int protection);
  ErrnoOr<uint64_t> remap(uint64_t address, uint64_t old_length, uint64_t new_length, int flags,
                          uint64_t new_address);
  Errno advise(uint64_t address, uint64_t length, int advice);
  /// kOk when all of it is mapped; ENOMEM.
  Errno check_mapped(uint64_t address, uint64_t length);
  uint64_t set_break(uint64_t address);
  void start_break(uint64_t address);
  /// Keeps the program's file from being written to as long as somebody runs it.
  void run_from(std::shared_ptr<void> hold) { program_ = std::move(hold); }
  void set_map_base(uint64_t base) { map_base_ = base; }
  /// Makes the host keep the tables of pages below the map base while nothing is mapped there, by a
  /// page above it that nobody can touch and that is on no map: a static program that maps and
  /// unmaps what it needs would have two tables made and cleared each time.
  Errno keep_page_tables();

  ErrnoOr<std::pair<std::shared_ptr<Mm>, std::unique_ptr<Context>>> fork(const ThreadImage& image);

  /// What a futex at `address` is known by: in shared memory the object and the offset in it.
  struct SharedPlace {
    const void* object = nullptr;
    uint64_t offset = 0;
  };
  SharedPlace place_of(uint64_t address);

  struct Area {
    uint64_t end = 0;
    int protection = 0;
    bool shared = false;
    bool may_write = true;  // of a shared one: mprotect(2) can make it writable
    bool may_run = true;    // not of a file on a mount with noexec
    std::shared_ptr<void> hold;
    FilePtr file;
    uint64_t offset = 0;
    std::string name;
  };
  /// A copy, for /proc; with the pages for reading the time, which no call can change.
  std::map<uint64_t, Area> areas();
  /// Those that are mapped shared somewhere in the range.
  std::vector<FilePtr> shared_files(uint64_t address, uint64_t end);
  struct Sizes {  // in bytes
    uint64_t mapped = 0;
    uint64_t usable = 0;    // of it, what has a protection other than none
    uint64_t of_files = 0;  // of that
    uint64_t data = 0;      // as data_bytes()
    uint64_t stack = 0;
  };
  Sizes sizes();
  uint64_t mapped_bytes();
  /// Private memory that can be written, but for the stack.
  uint64_t data_bytes();

  /// membarrier(2): what was registered, as its bits there.
  std::atomic<uint32_t> barriers{0};

  // Where exec put things, for /proc.
  struct Layout {
    uint64_t code_start = 0, code_end = 0;
    uint64_t stack = 0;
    uint64_t arguments = 0, arguments_end = 0;
    uint64_t environment = 0, environment_end = 0;
    std::string auxv;
  };
  Layout layout;

 private:
  using Areas = std::map<uint64_t, Area>;
  // With the changes' lock, without that of the areas: nobody else changes them.
  uint64_t find_gap(uint64_t length);
  uint64_t find_low_gap(uint64_t length);
  bool is_free(uint64_t address, uint64_t length);
  void erase(uint64_t address, uint64_t end);
  void insert(uint64_t address, Area area);
  // With that of the areas.
  void split_locked(uint64_t at);
  // What was there is in `gone` then, to end without the lock: a file's end may do anything.
  void erase_locked(uint64_t address, uint64_t end, Areas& gone);
  void insert_locked(uint64_t address, Area area, Areas& gone);
  // With either.
  bool covers(uint64_t address, uint64_t end);

  std::unique_ptr<AddressSpace> space_;
  // One change at a time, over the platform's part of it.
  std::mutex changes_;
  // Taken behind that to change areas_, alone to look at them; never held over the platform's.
  std::mutex areas_lock_;
  Areas areas_;
  uint64_t break_start_ = 0;
  uint64_t break_ = 0;
  ClockPages clock_pages_;
  std::shared_ptr<void> program_;
  uint64_t map_base_ = kGuestTop - (uint64_t{16} << 20);
};

}  // namespace fluyt::guest
