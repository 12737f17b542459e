#include <linux/magic.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/escapes.h"
#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

constexpr const char* kRoot = "/sys/fs/cgroup";
constexpr size_t kMaxMountinfoBytes = 16UL << 20U;

// The options of a v1 file system that are not controllers.
bool is_plain_option(std::string_view option) {
  constexpr std::array kPlain{
      "rw",       "ro",         "xattr",          "none",           "all",
      "noprefix", "nsdelegate", "clone_children", "cpuset_v2_mode", "favordynmods"};
  return option.empty() || option.starts_with("release_agent=") ||
         std::ranges::find(kPlain, option) != kPlain.end();
}

std::vector<std::string> controllers_in(std::string_view options) {
  std::vector<std::string> out;
  for (const std::string_view option : split(options, ',')) {
    if (!is_plain_option(option)) out.emplace_back(option);
  }
  return out;
}

bool seen(const Host& host, std::string_view controller) {
  return host.find_legacy(controller) != nullptr;
}

}  // namespace

const std::string* Host::find_legacy(std::string_view controller) const {
  for (const Legacy& mount : legacy) {
    if (std::ranges::find(mount.controllers, controller) != mount.controllers.end()) {
      return &mount.mount_point;
    }
  }
  return nullptr;
}

Result<Host> parse_mounts(std::string_view mountinfo, std::string_view unified_controllers) {
  Host host;
  for (const std::string_view line : split(mountinfo, '\n')) {
    // id parent major:minor root mount-point options [fields...] - type source super-options
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto before = split_words(line.substr(0, dash));
    const auto after = split_words(line.substr(dash + 3));
    if (before.size() < 5 || after.empty()) continue;
    if (after[0] == "cgroup2" && host.unified.empty()) {
      host.unified = undo_octal_escapes(before[4]);
    } else if (after[0] == "cgroup" && after.size() >= 3) {
      Host::Legacy mount{.mount_point = undo_octal_escapes(before[4]),
                         .controllers = controllers_in(after[2])};
      // The same hierarchy may be mounted twice (bind mounts): the first one counts.
      if (mount.controllers.empty() || seen(host, mount.controllers.front())) continue;
      host.legacy.push_back(std::move(mount));
    }
  }
  if (host.unified.empty() && host.legacy.empty()) {
    return Error(Code::kFailedPrecondition, "cgroups: no cgroup file system is mounted");
  }
  if (!host.unified.empty()) {
    for (const std::string_view name : split_words(trim(unified_controllers))) {
      host.controllers.emplace_back(name);
    }
  }
  return host;
}

Result<Host> probe() {
  struct statfs info{};
  if (statfs(kRoot, &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC) {
    const std::string text =
        FLUYT_TRY(sys::read_file(cat(kRoot, "/cgroup.controllers"), 64UL << 10U));
    Host host{.unified = kRoot, .controllers = {}, .legacy = {}};
    for (const std::string_view name : split_words(trim(text))) host.controllers.emplace_back(name);
    return host;
  }
  const std::string mounts = FLUYT_TRY(sys::read_file("/proc/self/mountinfo", kMaxMountinfoBytes));
  Host host = FLUYT_TRY(parse_mounts(mounts, ""));
  if (host.unified.empty()) return host;
  const std::string text =
      FLUYT_TRY(sys::read_file(cat(host.unified, "/cgroup.controllers"), 64UL << 10U));
  for (const std::string_view name : split_words(trim(text))) host.controllers.emplace_back(name);
  return host;
}

}  // namespace fluyt::runtime::cgroup
