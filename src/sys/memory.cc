#include "sys/memory.h"

#include <malloc.h>
#include <sys/mman.h>

#include <cerrno>
#include <charconv>
#include <cstdint>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {

constexpr size_t kMaxMaps = 16UL << 20U;

// "7f00-7f10 r-xp 00001000 fe:01 1234   /usr/lib/x.so": code that nobody can have written to.
Result<> drop_if_code(std::string_view line) {
  const auto words = split_words(line);
  if (words.size() < 6 || words[1] != "r-xp" || !words[5].starts_with('/')) return {};
  uintptr_t begin = 0;
  uintptr_t end = 0;
  const char* last = words[0].data() + words[0].size();
  const auto first = std::from_chars(words[0].data(), last, begin, 16);
  if (first.ptr == last) return {};
  std::from_chars(first.ptr + 1, last, end, 16);
  if (madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED) != 0)
    return Error::from_errno(errno, cat("madvise(", line, ", MADV_DONTNEED)"));
  return {};
}

}  // namespace

Result<> drop_start_pages() {
  const std::string maps = FLUYT_TRY(read_file("/proc/self/maps", kMaxMaps));
  for (const std::string_view line : split(maps, '\n')) FLUYT_TRY(drop_if_code(line));
  malloc_trim(0);
  return {};
}

void share_heaps() { mallopt(M_ARENA_MAX, 2); }

}  // namespace fluyt::sys
