#include <algorithm>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/systemd.h"
#include "runtime/cgroup/systemd_name.h"
#include "sys/rights.h"

namespace fluyt::runtime::cgroup {

namespace {

constexpr std::string_view kDefaultParent = "/fluyt";
constexpr size_t kMaxPathBytes = 2048;
constexpr size_t kMaxNameBytes = 255;

Error bad_path(std::string_view path, std::string_view why) {
  return Error(Code::kInvalidArgument, cat("linux.cgroupsPath: ", quote(path), ": ", why));
}

// "/a/b" out of "/a//./b/"; the pieces are checked one by one.
Result<std::string> clean(std::string_view path, std::string_view shown) {
  std::string out;
  for (const std::string_view piece : split(path, '/')) {
    if (piece.empty() || piece == ".") continue;
    if (piece == "..") return bad_path(shown, "may not contain \"..\"");
    if (piece.size() > kMaxNameBytes)
      return bad_path(shown, "a name in it is longer than 255 bytes");
    // These are the kernel's own files: a directory of that name could never be made.
    if (piece.starts_with("cgroup."))
      return bad_path(shown, "names starting with \"cgroup.\" are the kernel's");
    out += cat("/", piece);
  }
  if (out.empty()) return bad_path(shown, "is the root of the hierarchy: name a cgroup below it");
  return out;
}

Result<std::string> relative_to_root(std::string_view path, std::string_view id) {
  if (path.empty()) {
    if (id.empty() || id == "." || id == ".." || id.find('/') != std::string_view::npos ||
        has_control_characters(id) || id.size() > kMaxNameBytes) {
      return Error(Code::kInvalidArgument,
                   cat("container id ", quote(id), ": expected a name that can be a directory"));
    }
    return cat(kDefaultParent, "/", id);
  }
  if (path.size() > kMaxPathBytes)
    return bad_path(path, cat("longer than ", kMaxPathBytes, " bytes"));
  if (has_control_characters(path) || path.find('\0') != std::string_view::npos) {
    return bad_path(path, "contains control characters");
  }
  if (path.front() == '/') return clean(path, path);
  if (std::ranges::count(path, ':') == 2) {
    return Error(Code::kInvalidArgument,
                 cat("linux.cgroupsPath: ", quote(path),
                     ": the form slice:prefix:name is the systemd driver's: expected a path"));
  }
  return clean(cat(kDefaultParent, "/", path), path);
}

struct Place {
  std::string path;  // below the mount points
  std::optional<SystemdUnit> unit;
};

Result<Place> scope_place(std::string_view cgroups_path, std::string_view id) {
  // A user's own systemd has a cgroup of its own, and its slices below.
  const bool user = !sys::is_root_of_machine();
  const systemd::ScopePath scope =
      FLUYT_TRY(systemd::scope_path(cgroups_path, id, user ? "user.slice" : "system.slice"));
  Place place{.path = scope.path,
              .unit = SystemdUnit{.name = scope.unit, .slice = scope.slice, .user = user}};
  if (!user) return place;
  const Deadline deadline = Deadline::after_ms(systemd::kPatienceMs);
  auto manager = FLUYT_TRY(systemd::Manager::connect(systemd::Manager::Instance::kUser, deadline));
  const std::string above = FLUYT_TRY(manager.control_group(deadline));
  place.path = FLUYT_TRY(clean(cat(above, "/", scope.path), cgroups_path));
  return place;
}

Result<Place> place_of(std::string_view cgroups_path, std::string_view id, Driver driver) {
  if (driver == Driver::kSystemd) return scope_place(cgroups_path, id);
  return Place{.path = FLUYT_TRY(relative_to_root(cgroups_path, id)), .unit = {}};
}

}  // namespace

Driver driver_of(std::string_view cgroups_path) {
  const bool systemd = !cgroups_path.starts_with('/') && std::ranges::count(cgroups_path, ':') == 2;
  return systemd ? Driver::kSystemd : Driver::kCgroupfs;
}

Result<> check_driver(Driver driver) {
  if (driver == Driver::kCgroupfs) return {};
  const auto instance = sys::is_root_of_machine() ? systemd::Manager::Instance::kSystem
                                                  : systemd::Manager::Instance::kUser;
  FLUYT_TRY(systemd::Manager::connect(instance, Deadline::after_ms(systemd::kPatienceMs)));
  return {};
}

Result<CgroupRecord> locate(const Host& host, std::string_view cgroups_path, std::string_view id,
                            Driver driver) {
  Place place = FLUYT_TRY(place_of(cgroups_path, id, driver));
  CgroupRecord record;
  record.unit = std::move(place.unit);
  if (!host.unified.empty()) record.unified = host.unified + place.path;
  for (const Host::Legacy& mount : host.legacy) {
    for (const std::string& controller : mount.controllers) {
      record.legacy.emplace_back(controller, mount.mount_point + place.path);
    }
  }
  return record;
}

}  // namespace fluyt::runtime::cgroup
