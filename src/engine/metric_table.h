#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/metrics.h"
#include "engine/model.h"
#include "engine/processes.h"
#include "runtime/cgroup/stats.h"

/// The table of metrics and how each is read out of what was read of a container. Pure.
namespace fluyt::engine {

/// What a container's metrics are computed from.
struct ContainerSource {
  const Sandbox& sandbox;
  const Container& container;
  std::string cgroup;  // its path below a hierarchy's root
  runtime::cgroup::Stats stats;
  ProcessTotals processes;
  const DiskUsage* layer = nullptr;        // nullptr: not known yet
  std::vector<std::string> block_devices;  // names of stats.io's devices, in its order
  int64_t now_unix_ns = 0;
};
/// What has no value on this host, such as pressure on a kernel without it, is left out.
std::vector<Metric> container_metrics(const ContainerSource& source);
/// A pod's own: its network's.
std::vector<Metric> sandbox_metrics(const Sandbox& sandbox,
                                    const std::vector<InterfaceUsage>& interfaces);

/// "/dev/vda" for a block device's numbers, as `sys_dev_block` (/sys/dev/block) says; "254:0" where
/// it does not.
std::string block_device_name(const std::string& sys_dev_block, int64_t major, int64_t minor);

}  // namespace fluyt::engine
