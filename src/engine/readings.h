#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/core.h"
#include "engine/model.h"

/// What the stats verbs read of the host: files of cgroups and procfs, and the kernel's counters of
/// network devices. No tree is walked and no file of a container's is touched.
namespace fluyt::engine {

std::vector<ContainerPtr> running_in(Engine::Core& core, const std::string& sandbox_id);
/// Those of every sandbox that has some, by its id.
using RunningBySandbox = std::map<std::string, std::vector<ContainerPtr>>;
RunningBySandbox running_by_sandbox(Engine::Core& core);
/// What is known of the roots of `containers`, by id. All that one answer tells of is asked for at
/// once: the wait for first figures is one, however many there are.
using LayerFigures = std::map<std::string, DiskUsage>;
LayerFigures read_layers(Engine::Core& core, const std::vector<ContainerPtr>& containers);
std::vector<ContainerStats> read_stats(Engine::Core& core,
                                       const std::vector<ContainerPtr>& containers,
                                       const LayerFigures& layers);
/// The pod's network devices, the default one first; none in the host's network.
std::vector<InterfaceUsage> read_interfaces(Engine::Core& core, const Sandbox& sandbox);

}  // namespace fluyt::engine
