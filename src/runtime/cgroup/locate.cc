#include <algorithm>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"

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
    return Error(
        Code::kUnimplemented,
        cat("linux.cgroupsPath: ", quote(path),
            ": the systemd form slice:prefix:name needs the systemd driver, which fluyt does not "
            "have yet: give a path"));
  }
  return clean(cat(kDefaultParent, "/", path), path);
}

}  // namespace

Result<CgroupRecord> locate(const Host& host, std::string_view cgroups_path, std::string_view id) {
  const std::string path = FLUYT_TRY(relative_to_root(cgroups_path, id));
  CgroupRecord record;
  if (!host.unified.empty()) record.unified = host.unified + path;
  for (const Host::Legacy& mount : host.legacy) {
    for (const std::string& controller : mount.controllers) {
      record.legacy.emplace_back(controller, mount.mount_point + path);
    }
  }
  return record;
}

}  // namespace fluyt::runtime::cgroup
