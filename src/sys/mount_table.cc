#include "sys/mount_table.h"

#include <algorithm>

#include "base/escapes.h"
#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {
constexpr size_t kMaxText = 64UL << 20U;
}  // namespace

Result<MountTable> MountTable::read() {
  return parse(FLUYT_TRY(read_file("/proc/self/mountinfo", kMaxText)));
}

MountTable MountTable::parse(std::string_view mountinfo) {
  MountTable table;
  for (const std::string_view line : split(mountinfo, '\n')) {
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto mount = split_words(line.substr(0, dash));
    const auto file_system = split_words(line.substr(dash + 3));
    if (mount.size() < 6 || file_system.size() < 2) continue;
    const auto id = parse_number<uint64_t>(mount[0]);
    const auto parent = parse_number<uint64_t>(mount[1]);
    if (!id || !parent) continue;
    const auto options = split(file_system.back(), ',');
    table.all_.push_back({.id = *id,
                          .parent = *parent,
                          .device = std::string(mount[2]),
                          .point = undo_octal_escapes(mount[4]),
                          .keeps_labels = std::ranges::find(options, "seclabel") != options.end()});
  }
  return table;
}

const MountedAt* MountTable::find(uint64_t id) const {
  const auto found = std::ranges::find(all_, id, &MountedAt::id);
  return found == all_.end() ? nullptr : &*found;
}

const MountedAt* MountTable::find_at(std::string_view point) const {
  const auto found = std::find_if(all_.rbegin(), all_.rend(),
                                  [&](const MountedAt& mount) { return mount.point == point; });
  return found == all_.rend() ? nullptr : &*found;
}

}  // namespace fluyt::sys
