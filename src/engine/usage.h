#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/model.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/stats.h"

/// From what a cgroup's files say to the model's figures. Pure.
namespace fluyt::engine {

runtime::CgroupRecord record_of(const CgroupPaths& paths);
Usage usage_of(const runtime::cgroup::Stats& stats, int64_t now_unix_ns);
/// The containers' together, for a pod without a cgroup of its own. What one of them does not count
/// counts as nothing; pressure cannot be added up and is left out.
Usage sum_of(const std::vector<ContainerStats>& containers, int64_t now_unix_ns);

/// A process of ours in the container's cgroup is none of the container's.
void leave_out_holder(const CgroupPaths& paths, runtime::cgroup::Stats& stats);
/// The cgroup of a pod, where its caller gave it one; nothing for those that share the default.
Result<std::optional<runtime::CgroupRecord>> pod_cgroup(const runtime::cgroup::Host& host,
                                                        const Sandbox& sandbox);

}  // namespace fluyt::engine
