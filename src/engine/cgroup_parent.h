#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/config.h"
#include "engine/engine.h"
#include "engine/model.h"

/// Where the cgroups of pods, containers and monitors lie, for each driver. With cgroupfs a parent
/// is an absolute path, and what lies in it a directory. With systemd it is a slice, given by its
/// name ("kubepods-burstable.slice") or by its path, as the kubelet writes it
/// ("/kubepods.slice/kubepods-burstable.slice"), and what lies in it is a scope. Pure.
namespace fluyt::engine {

/// "cgroupfs" or "systemd".
Result<CgroupDriver> parse_cgroup_driver(std::string_view text);
std::string_view name_of(CgroupDriver driver);

/// What stands where nothing is configured.
std::string_view default_parent(CgroupDriver driver);
std::string_view default_monitor_parent(CgroupDriver driver);

/// kInvalidArgument for what has not the driver's form.
Result<> check_cgroup_parent(CgroupDriver driver, std::string_view parent);

/// What is in force for a sandbox.
std::string cgroup_parent_of(const Options& options, const Sandbox& sandbox);

/// Its directory below the root of a hierarchy.
Result<std::string> parent_directory(CgroupDriver driver, std::string_view parent);
/// "kubepods-burstable.slice" of either form.
std::string slice_name(std::string_view parent);

/// Of a container in it: its directory below the root of a hierarchy.
Result<std::string> container_directory(CgroupDriver driver, std::string_view parent,
                                        std::string_view id);
/// What the scopes of monitors are called, before a dash and the sandbox's id.
inline constexpr std::string_view kMonitorPrefix = "fluyt-monitor";
/// Of a sandbox's monitor, as linux.cgroupsPath names a cgroup.
std::string monitor_cgroups_path(const Options& options, const Sandbox& sandbox);

}  // namespace fluyt::engine
