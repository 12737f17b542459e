#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/mountinfo.h"
#include "runtime/plan.h"
#include "sys/fd.h"

/// What a dump says to a later restore beside CRIU's own files: fluyt.json in the archive, and the
/// keys of the mounts that CRIU leaves to us. A key is made of our own words and of places in the
/// specification's lists, never of a path.
namespace fluyt::runtime::checkpoint {

struct Archive {
  Descriptors descriptors;
  /// Mounts below a recursive bind, by its place in the plan: paths relative to the bind's root.
  std::map<size_t, std::vector<std::string>> submounts;
};
inline constexpr const char* kArchiveFile = "fluyt.json";
std::string to_json(const Archive& archive);
/// An archive comes from anywhere: what is not of the form that to_json() writes is kDataLoss.
Result<Archive> parse_archive(std::string_view text);

std::string mount_key(size_t place);
std::string submount_key(size_t place, size_t number);
std::string cgroup_key(size_t place, size_t number);
std::string device_key(size_t place);
inline constexpr const char* kNullKey = "fluyt-null";    // over masked files
inline constexpr const char* kEmptyKey = "fluyt-empty";  // over masked directories
inline constexpr const char* kNetworkKey = "fluyt-network";
inline constexpr const char* kPidKey = "fluyt-pid";

/// Where the plan's mounts are in a container: the mount that each lies in, by its id.
struct Placed {
  std::map<size_t, uint64_t> mounts;     // place in the plan: of every kind
  std::map<uint64_t, std::string> keys;  // of those that CRIU leaves to us
  std::map<size_t, std::vector<std::string>> submounts;
};
/// `root` is the container's, `cgroups` the names below its cgroup mount ("" alone on v2).
Result<Placed> place_mounts(const Plan& plan, sys::FdRef root,
                            const std::vector<std::string>& cgroups,
                            const std::vector<MountInfo>& mounts);
/// For CRIU's dump: mount point and key. A mount point that its option cannot carry is
/// kFailedPrecondition (CVE-2026-115520).
Result<std::vector<std::pair<std::string, std::string>>> external_mounts(
    const Placed& placed, const std::vector<MountInfo>& mounts);

}  // namespace fluyt::runtime::checkpoint
