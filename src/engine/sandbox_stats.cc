#include "base/strings.h"
#include "engine/cgroup_parent.h"
#include "engine/core.h"
#include "engine/readings.h"
#include "engine/usage.h"

namespace fluyt::engine {
namespace {

/// Of its own container.
Usage usage_of_own(Engine::Core& core, const Sandbox& sandbox) {
  const std::string parent = cgroup_parent_of(*core.now(), sandbox);
  const auto directory = container_directory(sandbox.cgroup_driver, parent, sandbox.id);
  if (!directory.ok()) return {};
  const auto cgroup = runtime::cgroup::locate(*core.cgroup_host, *directory, "");
  if (!cgroup.ok()) return {};
  const auto stats = runtime::cgroup::brief_stats(*cgroup);
  return stats.ok() ? usage_of(*stats, now_unix_ns()) : Usage();
}

/// The pod's own cgroup where it has one: it counts what its containers did that are gone as well.
Usage usage_of_pod(Engine::Core& core, const Sandbox& sandbox,
                   const std::vector<ContainerStats>& containers) {
  const int64_t now = now_unix_ns();
  const auto cgroup = pod_cgroup(*core.cgroup_host, sandbox);
  if (cgroup.ok() && *cgroup) {
    auto stats = runtime::cgroup::brief_stats(**cgroup);
    for (const ContainerStats& one : containers) {
      if (stats.ok()) leave_out_holder(one.container->cgroup, *stats);
    }
    if (stats.ok()) return usage_of(*stats, now);
  }
  std::vector<ContainerStats> all = containers;
  if (sandbox.own_container) all.push_back({.container = {}, .usage = usage_of_own(core, sandbox)});
  return sum_of(all, now);
}

SandboxStats read(Engine::Core& core, const SandboxPtr& sandbox,
                  const std::vector<ContainerPtr>& running, const LayerFigures& layers) {
  SandboxStats stats;
  stats.sandbox = sandbox;
  stats.containers = read_stats(core, running, layers);
  stats.usage = usage_of_pod(core, *sandbox, stats.containers);
  if (stats.usage.cpu_usage_ns) {
    stats.usage.cpu_nano_cores =
        core.cpu_rates.update(sandbox->id, stats.usage.timestamp, *stats.usage.cpu_usage_ns);
  }
  stats.interfaces = read_interfaces(core, *sandbox);
  stats.network_timestamp = now_unix_ns();
  return stats;
}

}  // namespace

Result<SandboxStats> Engine::sandbox_stats(const std::string& id) {
  const SandboxPtr sandbox = FLUYT_TRY(core_->get_sandbox(id))->value();
  if (sandbox->state != SandboxState::kReady) {
    return Error(Code::kFailedPrecondition,
                 cat("sandbox ", sandbox->id, " is ", name_of(sandbox->state), ": expected ready"));
  }
  const std::vector<ContainerPtr> running = running_in(*core_, sandbox->id);
  return read(*core_, sandbox, running, read_layers(*core_, running));
}

std::vector<SandboxStats> Engine::list_sandbox_stats(const SandboxFilter& filter) {
  const RunningBySandbox running = running_by_sandbox(*core_);
  std::vector<SandboxPtr> ready = list_sandboxes(filter);
  std::erase_if(ready, [](const auto& sandbox) { return sandbox->state != SandboxState::kReady; });
  std::vector<ContainerPtr> inside;
  for (const auto& sandbox : ready) {
    const auto its = running.find(sandbox->id);
    if (its != running.end()) inside.insert(inside.end(), its->second.begin(), its->second.end());
  }
  const LayerFigures layers = read_layers(*core_, inside);
  std::vector<SandboxStats> all;
  for (const auto& sandbox : ready) {
    const auto its = running.find(sandbox->id);
    all.push_back(read(*core_, sandbox,
                       its == running.end() ? std::vector<ContainerPtr>() : its->second, layers));
  }
  return all;
}

}  // namespace fluyt::engine
