#include "guest/platform/host/memory.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/strings.h"
#include "guest/platform/host/io.h"
#include "sys/mount.h"

namespace fluyt::guest::host {
namespace {

constexpr uint64_t kCgroupMagic = 0x27e0eb;  // of version 1

/// Nothing for "max".
std::optional<uint64_t> number_in(sys::FdRef file) {
  return parse_number<uint64_t>(trim(text_of(file)));
}

/// Where our cgroup has its files of memory, and what two of them are called: cgroups(7), of both
/// versions.
struct Place {
  sys::Fd mount;
  std::string path;  // below it
  const char* limit = "memory.max";
  const char* used = "memory.current";
};

Place find_place(std::string_view cgroups) {
  Place unified;
  for (const std::string_view row : split(cgroups, '\n')) {
    const size_t first = row.find(':');
    const size_t second = first == std::string_view::npos ? first : row.find(":/", first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers = row.substr(first + 1, second - first - 1);
    std::string path(row.substr(second + 2));
    std::vector<std::string> flags;
    for (const std::string_view controller : split(controllers, ','))
      flags.emplace_back(controller);
    if (std::ranges::find(flags, "memory") != flags.end())
      return {.mount = find_host_mount({"/sys/fs/cgroup/memory", "cgroup", kCgroupMagic, flags}),
              .path = std::move(path),
              .limit = "memory.limit_in_bytes",
              .used = "memory.usage_in_bytes"};
    if (row.starts_with("0::"))
      unified = {.mount = find_host_mount({"/sys/fs/cgroup", "cgroup2", sys::kCgroup2Magic, {}}),
                 .path = std::move(path)};
  }
  return unified;
}

}  // namespace

MemoryFigures parse_meminfo(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, uint64_t MemoryFigures::*>, 11> kRows = {
      {{"MemTotal:", &MemoryFigures::total},
       {"MemFree:", &MemoryFigures::free},
       {"MemAvailable:", &MemoryFigures::available},
       {"Buffers:", &MemoryFigures::buffers},
       {"Cached:", &MemoryFigures::cached},
       {"Active:", &MemoryFigures::active},
       {"Inactive:", &MemoryFigures::inactive},
       {"Shmem:", &MemoryFigures::shared},
       {"SReclaimable:", &MemoryFigures::reclaimable},
       {"SwapTotal:", &MemoryFigures::swap_total},
       {"SwapFree:", &MemoryFigures::swap_free}}};
  MemoryFigures out;
  for (const std::string_view row : split(text, '\n')) {
    const auto words = split_words(row);
    if (words.size() < 2) continue;
    for (const auto& [name, member] : kRows)
      if (words[0] == name) out.*member = parse_number<uint64_t>(words[1]).value_or(0) * 1024;
  }
  return out;
}

MemoryFigures within(const MemoryFigures& host, uint64_t limit, uint64_t used) {
  if (limit >= host.total) return host;
  const uint64_t left = limit - std::min(used, limit);
  return {.total = limit,
          .free = std::min(host.free, left),
          .available = std::min(host.available, left)};
}

MemoryGauge MemoryGauge::open(sys::FdRef procfs, uint64_t limit_bytes) {
  MemoryGauge out;
  out.given_limit_ = limit_bytes;
  out.host_ = sys::Fd(openat(procfs.raw(), "meminfo", O_RDONLY | O_CLOEXEC));
  const Place place = find_place(host_text(procfs, "self/cgroup"));
  if (!place.mount.valid()) return out;
  std::string path = place.path;
  uint64_t lowest = UINT64_MAX;
  for (;;) {
    const auto open_below = [&](const char* name) {
      const std::string file = path.empty() ? name : path + "/" + name;
      return sys::Fd(openat(place.mount.raw(), file.c_str(), O_RDONLY | O_CLOEXEC));
    };
    sys::Fd limit = open_below(place.limit);
    sys::Fd used = open_below(place.used);
    if (limit.valid() && used.valid()) {
      const uint64_t value = number_in(limit).value_or(UINT64_MAX);
      // Our own even when it has none yet: it may be given one.
      if (value < lowest || !out.limit_.valid()) {
        lowest = value;
        out.limit_ = std::move(limit);
        out.used_ = std::move(used);
      }
    }
    if (path.empty()) break;
    const size_t slash = path.rfind('/');
    path.resize(slash == std::string::npos ? 0 : slash);
  }
  return out;
}

MemoryGauge MemoryGauge::adopt(sys::Fd host, sys::Fd limit, sys::Fd used, uint64_t limit_bytes) {
  MemoryGauge out;
  out.host_ = std::move(host);
  out.limit_ = std::move(limit);
  out.used_ = std::move(used);
  out.given_limit_ = limit_bytes;
  return out;
}

bool MemoryGauge::limits() const {
  const uint64_t limit = limit_.valid()      ? number_in(limit_).value_or(UINT64_MAX)
                         : given_limit_ != 0 ? given_limit_
                                             : UINT64_MAX;
  return limit < parse_meminfo(text_of(host_)).total;
}

MemoryFigures MemoryGauge::read() const {
  MemoryFigures figures = parse_meminfo(text_of(host_));
  if (const auto limit = number_in(limit_))
    return within(figures, *limit, number_in(used_).value_or(0));
  if (!limit_.valid() && given_limit_ != 0) return within(figures, given_limit_, 0);
  return figures;
}

}  // namespace fluyt::guest::host
