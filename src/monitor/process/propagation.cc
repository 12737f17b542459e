#include "monitor/process/propagation.h"

#include <fcntl.h>

#include <algorithm>
#include <string>

#include "base/escapes.h"
#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxMountinfoBytes = 64UL << 20U;

bool has_option(const oci::Mount& mount, std::string_view option) {
  return std::find(mount.options.begin(), mount.options.end(), option) != mount.options.end();
}

}  // namespace

// proc_pid_mountinfo(5): the optional fields stand between the seventh and the hyphen.
std::optional<PeerGroup> find_peer_group(std::string_view mountinfo, uint64_t mount_id) {
  constexpr size_t kPoint = 4;
  constexpr size_t kOptional = 6;
  for (const std::string_view line : split(mountinfo, '\n')) {
    const auto words = split_words(line);
    if (words.size() <= kOptional || parse_number<uint64_t>(words[0]) != mount_id) continue;
    PeerGroup group{.point = words[kPoint]};
    for (size_t i = kOptional; i < words.size() && words[i] != "-"; ++i) {
      if (words[i].starts_with("shared:")) group.shared = true;
      if (words[i].starts_with("master:")) group.slave = true;
    }
    return group;
  }
  return std::nullopt;
}

Result<> check_propagation(const oci::Spec& spec) {
  std::string mountinfo;
  for (const oci::Mount& mount : spec.mounts) {
    const bool both_ways = has_option(mount, "rshared") || has_option(mount, "shared");
    const bool from_host = has_option(mount, "rslave") || has_option(mount, "slave");
    if (!both_ways && !from_host) continue;
    const auto source = sys::open(mount.source, O_PATH);
    if (!source.ok()) continue;
    if (mountinfo.empty())
      mountinfo = FLUYT_TRY(sys::read_file("/proc/self/mountinfo", kMaxMountinfoBytes));
    const auto group = find_peer_group(mountinfo, FLUYT_TRY(sys::mountinfo_id(*source)));
    if (!group || group->shared || (!both_ways && group->slave)) continue;
    return Error(
        Code::kFailedPrecondition,
        cat("mounts: ", quote(mount.destination, 1024), ": its source ", quote(mount.source, 1024),
            " lies on the mount at ", quote(undo_octal_escapes(group->point), 1024),
            ", which is not shared", both_ways ? "" : " nor a slave",
            ": expected one for propagation ", both_ways ? "Bidirectional" : "HostToContainer"));
  }
  return {};
}

}  // namespace fluyt::monitor
