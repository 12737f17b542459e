#include "runtime/checkpoint/archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::runtime::checkpoint {

namespace {

using Json = nlohmann::json;

constexpr int kVersion = 1;
constexpr size_t kMaxSubmounts = 4096;

bool is_number(std::string_view text, int base) {
  return text.size() <= 20 && (base == 16 ? parse_number<uint64_t>(text, 16).has_value()
                                          : parse_number<uint64_t>(text).has_value());
}

// "pipe:[7]", "file[1f:2a]" or nothing.
bool is_descriptor(std::string_view text) {
  if (text.empty()) return true;
  if (!text.ends_with(']')) return false;
  text.remove_suffix(1);
  if (text.starts_with("pipe:[")) return is_number(text.substr(6), 10);
  if (!text.starts_with("file[")) return false;
  const auto parts = split(text.substr(5), ':');
  return parts.size() == 2 && is_number(parts[0], 16) && is_number(parts[1], 16);
}

Result<> check(const Archive& archive) {
  if (archive.descriptors.size() > 3) return Error(Code::kDataLoss, "descriptors: more than three");
  for (const std::string& name : archive.descriptors) {
    if (!is_descriptor(name))
      return Error(Code::kDataLoss, cat("descriptors: ", quote(name), ": expected pipe or file"));
  }
  size_t count = 0;
  for (const auto& [place, paths] : archive.submounts) {
    count += paths.size();
    for (const std::string& path : paths) {
      if (path.empty() || path.size() > PATH_MAX || has_control_characters(path))
        return Error(Code::kDataLoss, cat("submounts: ", quote(path), ": expected a path"));
    }
  }
  if (count > kMaxSubmounts) return Error(Code::kDataLoss, "submounts: too many");
  return {};
}

const MountInfo* find_mount(const std::vector<MountInfo>& mounts, uint64_t id) {
  const auto found = std::find_if(mounts.begin(), mounts.end(),
                                  [&](const MountInfo& mount) { return mount.id == id; });
  return found == mounts.end() ? nullptr : &*found;
}

// The mount that `path` in the container lies in, when there is such a path.
Result<std::optional<uint64_t>> mount_at(sys::FdRef root, const std::string& path) {
  auto there = sys::open_in(root, path, O_PATH);
  if (!there.ok()) {
    if (there.error().errno_value() == ENOENT || there.error().errno_value() == ENOTDIR)
      return std::optional<uint64_t>();
    return std::move(there).error();
  }
  return std::optional(FLUYT_TRY(sys::mountinfo_id(*there)));
}

Result<> place_one(const Plan& plan, size_t place, sys::FdRef root,
                   const std::vector<std::string>& cgroups, Placed& out) {
  const MountPlan& mount = plan.mounts[place];
  if (mount.kind == MountKind::kRemount) return {};
  const auto id = FLUYT_TRY(mount_at(root, mount.destination));
  if (!id) return Error(Code::kFailedPrecondition, "is not there any more");
  out.mounts[place] = *id;
  if (mount.kind == MountKind::kBind || mount.kind == MountKind::kHostFs)
    out.keys.emplace(*id, mount_key(place));
  if (mount.kind != MountKind::kCgroup) return {};
  for (size_t i = 0; i < cgroups.size(); ++i) {
    const auto below = FLUYT_TRY(mount_at(root, cat(mount.destination, "/", cgroups[i])));
    if (below) out.keys.emplace(*below, cgroup_key(place, i));
  }
  return {};
}

Result<> place_masks(const Plan& plan, sys::FdRef root, const std::vector<MountInfo>& mounts,
                     Placed& out) {
  for (const std::string& path : plan.masked_paths) {
    auto there = sys::open_in(root, path, O_PATH);
    if (!there.ok()) continue;
    const struct stat info = FLUYT_TRY(sys::stat_of(*there));
    const uint64_t id = FLUYT_TRY(sys::mountinfo_id(*there));
    const MountInfo* mount = find_mount(mounts, id);
    if (mount == nullptr) continue;
    if (S_ISCHR(info.st_mode)) out.keys.emplace(id, kNullKey);
    if (S_ISDIR(info.st_mode) && mount->type == "tmpfs" && mount->has("ro"))
      out.keys.emplace(id, kEmptyKey);
  }
  return {};
}

Result<> place_devices(const Plan& plan, sys::FdRef root, Placed& out) {
  if (!plan.makes_dev || !plan.namespaces.in_user_namespace()) return {};
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    const auto id = FLUYT_TRY(mount_at(root, plan.devices[i].path));
    if (id) out.keys.emplace(*id, device_key(i));
  }
  return {};
}

// What came along with a recursive bind: mounts whose nearest known ancestor is that bind.
void place_submounts(const Plan& plan, const std::vector<MountInfo>& mounts, Placed& out) {
  std::map<uint64_t, size_t> binds;
  for (const auto& [place, id] : out.mounts) {
    if (plan.mounts[place].kind == MountKind::kBind && plan.mounts[place].options.bind_tree)
      binds[id] = place;
  }
  const std::map<uint64_t, std::string> known = out.keys;
  const auto is_planned = [&](uint64_t id) {
    return known.count(id) != 0 ||
           std::any_of(out.mounts.begin(), out.mounts.end(),
                       [&](const auto& entry) { return entry.second == id; });
  };
  for (const MountInfo& mount : mounts) {
    if (is_planned(mount.id)) continue;
    const MountInfo* above = &mount;
    while (above != nullptr && !is_planned(above->id)) above = find_mount(mounts, above->parent);
    if (above == nullptr || binds.count(above->id) == 0) continue;
    if (!mount.point.starts_with(above->point + "/")) continue;
    const size_t place = binds[above->id];
    auto& paths = out.submounts[place];
    out.keys.emplace(mount.id, submount_key(place, paths.size()));
    paths.push_back(mount.point.substr(above->point.size() + 1));
  }
}

}  // namespace

std::string to_json(const Archive& archive) {
  Json below = Json::array();
  for (const auto& [place, paths] : archive.submounts) below.push_back({place, paths});
  return Json{
      {"version", kVersion}, {"descriptors", archive.descriptors}, {"submounts", std::move(below)}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Archive> parse_archive(std::string_view text) {
  Archive out;
  try {
    const Json json = Json::parse(text);
    if (json.at("version") != kVersion) return Error(Code::kDataLoss, "version: expected 1");
    json.at("descriptors").get_to(out.descriptors);
    json.at("submounts").get_to(out.submounts);
  } catch (const Json::exception& broken) {
    return Error(Code::kDataLoss, broken.what());
  }
  FLUYT_TRY(check(out));
  return out;
}

std::string mount_key(size_t place) { return cat("fluyt-mount-", place); }
std::string submount_key(size_t place, size_t number) {
  return cat("fluyt-mount-", place, "-", number);
}
std::string cgroup_key(size_t place, size_t number) {
  return cat("fluyt-cgroup-", place, "-", number);
}
std::string device_key(size_t place) { return cat("fluyt-device-", place); }

Result<Placed> place_mounts(const Plan& plan, sys::FdRef root,
                            const std::vector<std::string>& cgroups,
                            const std::vector<MountInfo>& mounts) {
  Placed out;
  for (size_t i = 0; i < plan.mounts.size(); ++i) {
    FLUYT_TRY_CONTEXT(
        place_one(plan, i, root, cgroups, out),
        cat("mounts[", plan.mounts[i].index, "]: ", quote(plan.mounts[i].destination, 1024)));
  }
  FLUYT_TRY(place_masks(plan, root, mounts, out));
  FLUYT_TRY(place_devices(plan, root, out));
  place_submounts(plan, mounts, out);
  return out;
}

Result<std::vector<std::pair<std::string, std::string>>> external_mounts(
    const Placed& placed, const std::vector<MountInfo>& mounts) {
  std::vector<std::pair<std::string, std::string>> out;
  for (const MountInfo& mount : mounts) {
    const auto key = placed.keys.find(mount.id);
    if (key == placed.keys.end()) continue;
    // CRIU looks for "mnt[" POINT "]" in front of ":" KEY.
    if (has_control_characters(mount.point) || mount.point.find(']') != std::string::npos) {
      return Error(Code::kFailedPrecondition,
                   cat("mount point ", quote(mount.point, 1024),
                       ": criu cannot be told of one with ']' or control characters"));
    }
    const auto same = std::count_if(mounts.begin(), mounts.end(), [&](const MountInfo& other) {
      return other.point == mount.point;
    });
    if (same > 1) {
      return Error(Code::kFailedPrecondition,
                   cat("mount point ", quote(mount.point, 1024),
                       ": two mounts lie over each other, and criu cannot tell them apart"));
    }
    out.emplace_back(mount.point, key->second);
  }
  return out;
}

}  // namespace fluyt::runtime::checkpoint
