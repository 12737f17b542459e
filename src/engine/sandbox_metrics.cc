#include "base/strings.h"
#include "engine/cgroup_parent.h"
#include "engine/core.h"
#include "engine/metric_table.h"
#include "engine/readings.h"
#include "engine/usage.h"

namespace fluyt::engine {
namespace {

/// As the hierarchies name it, without where one is mounted.
std::string cgroup_name(const Engine::Core& core, const Sandbox& sandbox, const std::string& id) {
  const std::string parent = cgroup_parent_of(*core.now(), sandbox);
  return container_directory(sandbox.cgroup_driver, parent, id).value_or(parent);
}

ContainerMetrics read(Engine::Core& core, const Sandbox& sandbox, const Container& container,
                      const DiskUsage* layer) {
  const runtime::CgroupRecord record = record_of(container.cgroup);
  ContainerSource source{.sandbox = sandbox,
                         .container = container,
                         .cgroup = cgroup_name(core, sandbox, container.id),
                         .stats = {},
                         .processes = {},
                         .layer = layer,
                         .block_devices = {},
                         .now_unix_ns = now_unix_ns()};
  auto stats = runtime::cgroup::stats(record);
  if (!stats.ok()) return {container.id, {}};  // it ended this very moment
  source.stats = std::move(*stats);
  leave_out_holder(container.cgroup, source.stats);
  for (const auto& device : source.stats.io) {
    source.block_devices.push_back(block_device_name("/sys/dev/block", device.major, device.minor));
  }
  auto pids = runtime::cgroup::pids(record);
  if (pids.ok()) std::erase(*pids, container.cgroup.holder);
  if (pids.ok()) source.processes = read_processes("/proc", *pids, container.pid);
  return {container.id, container_metrics(source)};
}

}  // namespace

std::vector<SandboxMetrics> Engine::list_sandbox_metrics() {
  RunningBySandbox inside = running_by_sandbox(*core_);
  std::vector<ContainerPtr> everywhere;
  for (const auto& [id, running] : inside)
    everywhere.insert(everywhere.end(), running.begin(), running.end());
  const LayerFigures layers = read_layers(*core_, everywhere);
  std::vector<SandboxMetrics> all;
  for (const auto& sandbox : list_sandboxes({})) {
    if (sandbox->state != SandboxState::kReady) continue;
    SandboxMetrics& metrics = all.emplace_back();
    metrics.sandbox_id = sandbox->id;
    metrics.metrics = sandbox_metrics(*sandbox, read_interfaces(*core_, *sandbox));
    for (const auto& container : inside[sandbox->id]) {
      const auto layer = layers.find(container->id);
      metrics.containers.push_back(
          read(*core_, *sandbox, *container, layer == layers.end() ? nullptr : &layer->second));
    }
  }
  return all;
}

}  // namespace fluyt::engine
