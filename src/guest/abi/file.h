#pragma once

#include <cstdint>

/// What files look like to guest programs: the structures of stat, statx and getdents64.
namespace fluyt::guest {

struct Timestamp {
  int64_t seconds = 0;
  int64_t nanoseconds = 0;
};

/// struct stat of x86-64.
struct Stat {
  uint64_t dev = 0;
  uint64_t ino = 0;
  uint64_t nlink = 1;
  uint32_t mode = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t padding = 0;
  uint64_t rdev = 0;
  int64_t size = 0;
  int64_t block_size = 4096;
  int64_t blocks = 0;
  Timestamp accessed;
  Timestamp modified;
  Timestamp changed;
  int64_t unused[3] = {};
};
static_assert(sizeof(Stat) == 144);

struct StatfsBuffer {
  int64_t type = 0;
  int64_t block_size = 4096;
  uint64_t blocks = 0, blocks_free = 0, blocks_available = 0;
  uint64_t files = 0, files_free = 0;
  int32_t fsid[2] = {};
  int64_t name_length = 255;
  int64_t fragment_size = 4096;
  int64_t flags = 0;
  int64_t spare[4] = {};
};
static_assert(sizeof(StatfsBuffer) == 120);

constexpr uint64_t make_device(uint32_t major, uint32_t minor) {
  return (uint64_t{major & 0xfffff000} << 32) | (uint64_t{major & 0xfff} << 8) |
         (uint64_t{minor & 0xffffff00} << 12) | (minor & 0xff);
}

}  // namespace fluyt::guest
