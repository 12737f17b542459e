#include "oci/runtime_spec_internal.h"

namespace fluyt::oci::internal {
namespace {

using json::Ordered;
using json::put;

Ordered write_user(const User& user) {
  Ordered out = Ordered::object();
  out["uid"] = user.uid;
  out["gid"] = user.gid;
  put(out, "umask", user.umask);
  put(out, "additionalGids", user.additional_gids);
  return out;
}

Ordered write_console_size(const ConsoleSize& size) {
  return Ordered{{"height", size.height}, {"width", size.width}};
}

Ordered write_rlimit(const Rlimit& limit) {
  return Ordered{{"type", limit.type}, {"hard", limit.hard}, {"soft", limit.soft}};
}

Ordered write_capabilities(const Capabilities& sets) {
  Ordered out = Ordered::object();
  put(out, "bounding", sets.bounding);
  put(out, "effective", sets.effective);
  put(out, "inheritable", sets.inheritable);
  put(out, "permitted", sets.permitted);
  put(out, "ambient", sets.ambient);
  return out;
}

Ordered write_scheduler(const Scheduler& scheduler) {
  Ordered out = Ordered::object();
  out["policy"] = scheduler.policy;
  put(out, "nice", scheduler.nice);
  put(out, "priority", scheduler.priority);
  put(out, "flags", scheduler.flags);
  put(out, "runtime", scheduler.runtime);
  put(out, "deadline", scheduler.deadline);
  put(out, "period", scheduler.period);
  return out;
}

Ordered write_io_priority(const IoPriority& priority) {
  return Ordered{{"class", priority.io_class}, {"priority", priority.priority}};
}

Ordered write_cpu_affinity(const ExecCpuAffinity& affinity) {
  Ordered out = Ordered::object();
  put(out, "initial", affinity.initial);
  put(out, "final", affinity.final);
  return out;
}

Ordered write_device_rule(const DeviceRule& rule) {
  Ordered out = Ordered::object();
  out["allow"] = rule.allow;
  if (rule.type != 'a') {
    out["type"] = std::string(1, rule.type);
  }
  put(out, "major", rule.major);
  put(out, "minor", rule.minor);
  put(out, "access", rule.access);
  return out;
}

Ordered write_memory(const MemoryResources& memory) {
  Ordered out = Ordered::object();
  put(out, "limit", memory.limit);
  put(out, "reservation", memory.reservation);
  put(out, "swap", memory.swap);
  put(out, "kernel", memory.kernel);
  put(out, "kernelTCP", memory.kernel_tcp);
  put(out, "swappiness", memory.swappiness);
  put(out, "disableOOMKiller", memory.disable_oom_killer);
  put(out, "useHierarchy", memory.use_hierarchy);
  put(out, "checkBeforeUpdate", memory.check_before_update);
  return out;
}

Ordered write_cpu(const CpuResources& cpu) {
  Ordered out = Ordered::object();
  put(out, "shares", cpu.shares);
  put(out, "quota", cpu.quota);
  put(out, "burst", cpu.burst);
  put(out, "period", cpu.period);
  put(out, "realtimeRuntime", cpu.realtime_runtime);
  put(out, "realtimePeriod", cpu.realtime_period);
  put(out, "cpus", cpu.cpus);
  put(out, "mems", cpu.mems);
  put(out, "idle", cpu.idle);
  return out;
}

Ordered write_weight_device(const WeightDevice& device) {
  Ordered out{{"major", device.major}, {"minor", device.minor}};
  put(out, "weight", device.weight);
  put(out, "leafWeight", device.leaf_weight);
  return out;
}

Ordered write_throttle_device(const ThrottleDevice& device) {
  return Ordered{{"major", device.major}, {"minor", device.minor}, {"rate", device.rate}};
}

Ordered write_block_io(const BlockIoResources& io) {
  Ordered out = Ordered::object();
  put(out, "weight", io.weight);
  put(out, "leafWeight", io.leaf_weight);
  put(out, "weightDevice", io.weight_device, write_weight_device);
  put(out, "throttleReadBpsDevice", io.throttle_read_bps_device, write_throttle_device);
  put(out, "throttleWriteBpsDevice", io.throttle_write_bps_device, write_throttle_device);
  put(out, "throttleReadIOPSDevice", io.throttle_read_iops_device, write_throttle_device);
  put(out, "throttleWriteIOPSDevice", io.throttle_write_iops_device, write_throttle_device);
  return out;
}

Ordered write_hugepage_limit(const HugepageLimit& limit) {
  return Ordered{{"pageSize", limit.page_size}, {"limit", limit.limit}};
}

Ordered write_interface_priority(const InterfacePriority& priority) {
  return Ordered{{"name", priority.name}, {"priority", priority.priority}};
}

Ordered write_network(const NetworkResources& network) {
  Ordered out = Ordered::object();
  put(out, "classID", network.class_id);
  put(out, "priorities", network.priorities, write_interface_priority);
  return out;
}

Ordered write_rdma(const std::map<std::string, RdmaLimit>& limits) {
  Ordered out = Ordered::object();
  for (const auto& [device, limit] : limits) {
    Ordered& one = out[device] = Ordered::object();
    put(one, "hcaHandles", limit.hca_handles);
    put(one, "hcaObjects", limit.hca_objects);
  }
  return out;
}

Ordered write_namespace(const Namespace& one) {
  Ordered out = Ordered::object();
  out["type"] = namespace_name(one.type);
  put(out, "path", one.path);
  return out;
}

Ordered write_time_offsets(const std::map<std::string, TimeOffset>& offsets) {
  Ordered out = Ordered::object();
  for (const auto& [clock, offset] : offsets) {
    out[clock] = Ordered{{"secs", offset.secs}, {"nanosecs", offset.nanosecs}};
  }
  return out;
}

Ordered write_device(const Device& device) {
  Ordered out = Ordered::object();
  out["path"] = device.path;
  out["type"] = std::string(1, device.type);
  out["major"] = device.major;
  out["minor"] = device.minor;
  put(out, "fileMode", device.file_mode);
  put(out, "uid", device.uid);
  put(out, "gid", device.gid);
  return out;
}

Ordered write_net_devices(const std::map<std::string, std::string>& devices) {
  Ordered out = Ordered::object();
  for (const auto& [host, container] : devices) {
    Ordered& one = out[host] = Ordered::object();
    put(one, "name", container);
  }
  return out;
}

Ordered write_intel_rdt(const IntelRdt& rdt) {
  Ordered out = Ordered::object();
  put(out, "closID", rdt.clos_id);
  put(out, "schemata", rdt.schemata);
  put(out, "l3CacheSchema", rdt.l3_cache_schema);
  put(out, "memBwSchema", rdt.mem_bw_schema);
  put(out, "enableMonitoring", rdt.enable_monitoring);
  return out;
}

Ordered write_memory_policy(const MemoryPolicy& policy) {
  Ordered out = Ordered::object();
  out["mode"] = policy.mode;
  put(out, "nodes", policy.nodes);
  put(out, "flags", policy.flags);
  return out;
}

Ordered write_personality(const Personality& personality) {
  Ordered out = Ordered::object();
  out["domain"] = personality.domain;
  put(out, "flags", personality.flags);
  return out;
}

Ordered write_mount(const Mount& mount) {
  Ordered out = Ordered::object();
  out["destination"] = mount.destination;
  put(out, "type", mount.type);
  put(out, "source", mount.source);
  put(out, "options", mount.options);
  put(out, "uidMappings", mount.uid_mappings, write_mapping);
  put(out, "gidMappings", mount.gid_mappings, write_mapping);
  return out;
}

Ordered write_root(const Root& root) {
  Ordered out = Ordered::object();
  out["path"] = root.path;
  put(out, "readonly", root.readonly);
  return out;
}

Ordered write_hook(const Hook& hook) {
  Ordered out = Ordered::object();
  out["path"] = hook.path;
  put(out, "args", hook.args);
  put(out, "env", hook.env);
  put(out, "timeout", hook.timeout);
  return out;
}

Ordered write_hooks(const Hooks& hooks) {
  Ordered out = Ordered::object();
  put(out, "prestart", hooks.prestart, write_hook);
  put(out, "createRuntime", hooks.create_runtime, write_hook);
  put(out, "createContainer", hooks.create_container, write_hook);
  put(out, "startContainer", hooks.start_container, write_hook);
  put(out, "poststart", hooks.poststart, write_hook);
  put(out, "poststop", hooks.poststop, write_hook);
  return out;
}

Ordered write_spec(const Spec& spec) {
  Ordered out = Ordered::object();
  out["ociVersion"] = spec.oci_version;
  put(out, "process", spec.process, write_process);
  put(out, "root", spec.root, write_root);
  put(out, "hostname", spec.hostname);
  put(out, "domainname", spec.domainname);
  put(out, "mounts", spec.mounts, write_mount);
  put(out, "hooks", spec.hooks, write_hooks);
  put(out, "annotations", spec.annotations);
  put(out, "linux", spec.linux_, write_linux);
  return out;
}

}  // namespace

Ordered write_mapping(const IdMapping& mapping) {
  return Ordered{
      {"containerID", mapping.container_id}, {"hostID", mapping.host_id}, {"size", mapping.size}};
}

Ordered write_process(const Process& process) {
  Ordered out = Ordered::object();
  put(out, "terminal", process.terminal);
  put(out, "consoleSize", process.console_size, write_console_size);
  out["user"] = write_user(process.user);
  out["args"] = process.args;
  put(out, "env", process.env);
  out["cwd"] = process.cwd;
  put(out, "capabilities", process.capabilities, write_capabilities);
  put(out, "rlimits", process.rlimits, write_rlimit);
  put(out, "noNewPrivileges", process.no_new_privileges);
  put(out, "apparmorProfile", process.apparmor_profile);
  put(out, "selinuxLabel", process.selinux_label);
  put(out, "oomScoreAdj", process.oom_score_adj);
  put(out, "scheduler", process.scheduler, write_scheduler);
  put(out, "ioPriority", process.io_priority, write_io_priority);
  put(out, "execCPUAffinity", process.exec_cpu_affinity, write_cpu_affinity);
  return out;
}

Ordered write_resources(const Resources& resources) {
  Ordered out = Ordered::object();
  put(out, "devices", resources.devices, write_device_rule);
  put(out, "memory", resources.memory, write_memory);
  put(out, "cpu", resources.cpu, write_cpu);
  put(out, "blockIO", resources.block_io, write_block_io);
  put(out, "hugepageLimits", resources.hugepage_limits, write_hugepage_limit);
  put(out, "network", resources.network, write_network);
  if (resources.pids_limit) {
    out["pids"] = Ordered{{"limit", *resources.pids_limit}};
  }
  if (!resources.rdma.empty()) {
    out["rdma"] = write_rdma(resources.rdma);
  }
  put(out, "unified", resources.unified);
  return out;
}

Ordered write_linux(const Linux& linux_) {
  Ordered out = Ordered::object();
  put(out, "uidMappings", linux_.uid_mappings, write_mapping);
  put(out, "gidMappings", linux_.gid_mappings, write_mapping);
  put(out, "sysctl", linux_.sysctl);
  put(out, "resources", linux_.resources, write_resources);
  put(out, "cgroupsPath", linux_.cgroups_path);
  put(out, "namespaces", linux_.namespaces, write_namespace);
  if (!linux_.time_offsets.empty()) {
    out["timeOffsets"] = write_time_offsets(linux_.time_offsets);
  }
  put(out, "devices", linux_.devices, write_device);
  if (!linux_.net_devices.empty()) {
    out["netDevices"] = write_net_devices(linux_.net_devices);
  }
  put(out, "seccomp", linux_.seccomp, write_seccomp);
  put(out, "rootfsPropagation", linux_.rootfs_propagation);
  put(out, "maskedPaths", linux_.masked_paths);
  put(out, "readonlyPaths", linux_.readonly_paths);
  put(out, "mountLabel", linux_.mount_label);
  put(out, "intelRdt", linux_.intel_rdt, write_intel_rdt);
  put(out, "memoryPolicy", linux_.memory_policy, write_memory_policy);
  put(out, "personality", linux_.personality, write_personality);
  return out;
}

}  // namespace fluyt::oci::internal

namespace fluyt::oci {

std::string to_json(const Spec& spec) { return json::text(internal::write_spec(spec)); }
std::string to_json(const Process& process) { return json::text(internal::write_process(process)); }
std::string to_json(const Resources& resources) {
  return json::text(internal::write_resources(resources));
}
std::string to_pretty_json(const Spec& spec) { return json::text(internal::write_spec(spec), 4); }

std::string to_json(const State& state) {
  json::Ordered out = json::Ordered::object();
  out["ociVersion"] = state.oci_version;
  out["id"] = state.id;
  out["status"] = state.status;
  out["pid"] = state.pid;
  out["bundle"] = state.bundle;
  json::put(out, "annotations", state.annotations);
  return json::text(out);
}

}  // namespace fluyt::oci
