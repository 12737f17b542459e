#include "engine/cgroup_parent.h"

#include "base/strings.h"
#include "runtime/cgroup/systemd_name.h"
#include "spec/container_spec.h"

namespace fluyt::engine {
namespace {

constexpr std::string_view kSlice = ".slice";

Error refused(std::string_view parent, std::string_view why) {
  return Error(Code::kInvalidArgument, cat(quote(parent), ": ", why));
}

Result<> check_path(std::string_view parent) {
  if (!parent.starts_with('/') || parent.find_first_not_of('/') == std::string_view::npos)
    return refused(parent, "expected an absolute path below the root, as the driver is cgroupfs");
  if (parent.ends_with(kSlice)) {
    return refused(
        parent,
        "a slice is the systemd driver's: expected a path such as /kubepods/pod1, as the "
        "driver is cgroupfs");
  }
  for (const std::string_view word : split(parent, '/')) {
    if (word == ".." || word == ".") return refused(parent, "expected a path without \"..\"");
  }
  return {};
}

}  // namespace

Result<CgroupDriver> parse_cgroup_driver(std::string_view text) {
  if (text == "cgroupfs") return CgroupDriver::kCgroupfs;
  if (text == "systemd") return CgroupDriver::kSystemd;
  return Error(Code::kInvalidArgument, cat(quote(text), ": expected \"cgroupfs\" or \"systemd\""));
}

std::string_view name_of(CgroupDriver driver) {
  return driver == CgroupDriver::kSystemd ? "systemd" : "cgroupfs";
}

std::string_view default_parent(CgroupDriver driver) {
  return driver == CgroupDriver::kSystemd ? "fluyt-pods.slice" : "/fluyt";
}

std::string_view default_monitor_parent(CgroupDriver driver) {
  return driver == CgroupDriver::kSystemd ? "fluyt-monitors.slice" : "/fluyt-monitors";
}

std::string cgroup_parent_of(const Options& options, const Sandbox& sandbox) {
  for (const std::string* parent :
       {&sandbox.cgroup_parent, &sandbox.config.cgroup_parent, &options.default_cgroup_parent}) {
    if (!parent->empty()) return *parent;
  }
  return std::string(default_parent(sandbox.cgroup_driver));
}

std::string slice_name(std::string_view parent) {
  return std::string(parent.substr(parent.rfind('/') + 1));  // npos + 1 is 0
}

Result<> check_cgroup_parent(CgroupDriver driver, std::string_view parent) {
  FLUYT_TRY(parent_directory(driver, parent));
  return {};
}

Result<std::string> parent_directory(CgroupDriver driver, std::string_view parent) {
  if (has_control_characters(parent) || !is_utf8(parent))
    return refused(parent, "expected printable text");
  if (driver == CgroupDriver::kCgroupfs) {
    FLUYT_TRY(check_path(parent));
    return std::string(parent.substr(0, parent.find_last_not_of('/') + 1));
  }
  const std::string name = slice_name(parent);
  if (!name.ends_with(kSlice)) {
    return refused(parent,
                   "expected a slice, such as kubepods-burstable.slice, as the driver is systemd");
  }
  std::string path = FLUYT_TRY(runtime::cgroup::systemd::expand_slice(name));
  if (path.empty()) return refused(parent, "expected a slice below the root");
  if (parent == name || parent == cat("/", name) || parent == path) return path;
  return refused(parent, cat("expected the slice's name alone, or its path ", quote(path)));
}

Result<std::string> container_directory(CgroupDriver driver, std::string_view parent,
                                        std::string_view id) {
  const std::string above = FLUYT_TRY(parent_directory(driver, parent));
  if (driver == CgroupDriver::kCgroupfs) return cat(above, "/", id);
  return cat(above, "/", spec::kScopePrefix, "-", id, ".scope");
}

std::string monitor_cgroups_path(const Options& options, const Sandbox& sandbox) {
  const CgroupDriver driver = sandbox.cgroup_driver;
  const std::string& configured = options.monitor_cgroup_parent;
  const std::string parent =
      configured.empty() ? std::string(default_monitor_parent(driver)) : configured;
  if (driver == CgroupDriver::kCgroupfs) return cat(parent, "/", sandbox.id);
  return cat(slice_name(parent), ":", kMonitorPrefix, ":", sandbox.id);
}

}  // namespace fluyt::engine
