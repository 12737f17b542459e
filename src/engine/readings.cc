#include "engine/readings.h"

#include <sys/sysmacros.h>

#include <algorithm>

#include "base/strings.h"
#include "engine/metric_table.h"
#include "engine/usage.h"
#include "sys/fs_size.h"

namespace fluyt::engine {
namespace {

constexpr std::string_view kDefaultInterface = "eth0";
constexpr int64_t kFirstLayerMs = 1000;  // for the first figures of new containers' roots

ContainerStats read_one(Engine::Core& core, const ContainerPtr& container) {
  ContainerStats stats;
  stats.container = container;
  stats.usage.timestamp = now_unix_ns();
  auto read = runtime::cgroup::brief_stats(record_of(container->cgroup));
  if (!read.ok()) return stats;  // its cgroup has gone with it
  leave_out_holder(container->cgroup, *read);
  stats.usage = usage_of(*read, stats.usage.timestamp);
  if (stats.usage.cpu_usage_ns) {
    stats.usage.cpu_nano_cores =
        core.cpu_rates.update(container->id, stats.usage.timestamp, *stats.usage.cpu_usage_ns);
  }
  return stats;
}

}  // namespace

std::vector<ContainerPtr> running_in(Engine::Core& core, const std::string& sandbox_id) {
  std::vector<ContainerPtr> running;
  for (const auto& entry : core.containers_of(sandbox_id)) {
    ContainerPtr container = entry->value();
    if (container->state == ContainerState::kRunning) running.push_back(std::move(container));
  }
  return running;
}

RunningBySandbox running_by_sandbox(Engine::Core& core) {
  RunningBySandbox running;
  for (const auto& entry : core.containers()) {
    ContainerPtr container = entry->value();
    if (container->state == ContainerState::kRunning)
      running[container->sandbox_id].push_back(std::move(container));
  }
  return running;
}

LayerFigures read_layers(Engine::Core& core, const std::vector<ContainerPtr>& containers) {
  std::vector<std::string> ids;
  ids.reserve(containers.size());
  for (const ContainerPtr& container : containers) ids.push_back(container->id);
  return core.layer_usage.get(ids, Deadline::after_ms(kFirstLayerMs));
}

std::vector<ContainerStats> read_stats(Engine::Core& core,
                                       const std::vector<ContainerPtr>& containers,
                                       const LayerFigures& layers) {
  std::vector<ContainerStats> all;
  all.reserve(containers.size());
  for (const ContainerPtr& container : containers) {
    ContainerStats& stats = all.emplace_back(read_one(core, container));
    const auto layer = layers.find(container->id);
    if (layer != layers.end()) stats.writable_layer = layer->second;
  }
  return all;
}

std::vector<InterfaceUsage> read_interfaces(Engine::Core& core, const Sandbox& sandbox) {
  if (sandbox.namespaces.network.empty()) return {};
  auto counted = network::traffic(sandbox.namespaces.network);
  if (!counted.ok()) {
    core.logger.debug(cat("sandbox ", sandbox.id, ": network: ", counted.error().message()));
    return {};
  }
  std::ranges::stable_partition(*counted,
                                [](const auto& one) { return one.name == kDefaultInterface; });
  return std::move(counted).value();
}

Result<DiskUsage> Engine::Core::measure_layer(const std::string& container_id) {
  const image::FsUsage usage = FLUYT_TRY(parts.images->root_usage(container_id));
  DiskUsage out{.timestamp = now_unix_ns(),
                .mountpoint = usage.mountpoint,
                .used_bytes = usage.used_bytes,
                .inodes = usage.inodes,
                .complete = usage.complete};
  const auto size = sys::fs_size(usage.mountpoint);
  if (size.ok()) {
    out.file_system =
        FsTotals{.bytes = size->bytes,
                 .inodes = size->inodes,
                 .free_inodes = size->free_inodes,
                 .device = block_device_name("/sys/dev/block", ::gnu_dev_major(size->device),
                                             ::gnu_dev_minor(size->device))};
  }
  return out;
}

}  // namespace fluyt::engine
