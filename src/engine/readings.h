#pragma once

#include <string>
#include <vector>

#include "engine/core.h"
#include "engine/model.h"

/// What the stats verbs read of the host: files of cgroups and procfs, and the kernel's counters of
/// network devices. No tree is walked and no file of a container's is touched.
namespace fluyt::engine {

/// How long the callers of a verb wait for the first figures of a new container's root.
inline constexpr int64_t kFirstLayerMs = 1000;

std::vector<ContainerPtr> running_in(Engine::Core& core, const std::string& sandbox_id);
/// Of containers, with what is known of their roots.
std::vector<ContainerStats> read_stats(Engine::Core& core,
                                       const std::vector<ContainerPtr>& containers);
/// The pod's network devices, the default one first; none in the host's network.
std::vector<InterfaceUsage> read_interfaces(Engine::Core& core, const Sandbox& sandbox);

}  // namespace fluyt::engine
