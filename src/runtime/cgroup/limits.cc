#include "runtime/cgroup/limits.h"

#include <algorithm>
#include <cmath>

#include "base/strings.h"
#include "runtime/cgroup/files.h"

namespace fluyt::runtime::cgroup {

namespace {

constexpr std::string_view kResources = "linux.resources.";

Error invalid(std::string_view field, std::string_view value, std::string_view why) {
  return Error(Code::kInvalidArgument, cat(kResources, field, ": ", value, ": ", why));
}

Error missing(std::string_view field, std::string_view what) {
  return Error(Code::kFailedPrecondition,
               cat(field, ": this host has no cgroup controller for it: ", what));
}

Error not_on_v2(std::string_view field) {
  return Error(Code::kFailedPrecondition,
               cat(kResources, field, ": cgroup v2 has no such setting"));
}

/// Where a controller's files are.
struct Place {
  std::string directory;
  bool unified = false;
};

class Planner {
 public:
  Planner(const Layout& layout, const oci::Resources& resources)
      : layout_(layout), resources_(resources) {}

  Result<std::vector<Write>> plan() {
    if (resources_.cpu) FLUYT_TRY(cpu(*resources_.cpu));
    if (resources_.memory) FLUYT_TRY(memory(*resources_.memory));
    if (resources_.pids_limit) FLUYT_TRY(pids(*resources_.pids_limit));
    if (resources_.block_io) FLUYT_TRY(block_io(*resources_.block_io));
    for (size_t i = 0; i < resources_.hugepage_limits.size(); ++i) {
      FLUYT_TRY(hugepages(resources_.hugepage_limits[i], cat("hugepageLimits[", i, "]")));
    }
    if (resources_.network) FLUYT_TRY(network(*resources_.network));
    for (const auto& [device, limit] : resources_.rdma) FLUYT_TRY(rdma(device, limit));
    // Last, so that what is said in the kernel's own words wins.
    for (const auto& [file, value] : resources_.unified) FLUYT_TRY(unified(file, value));
    return std::move(writes_);
  }

 private:
  Result<Place> place(std::string_view legacy, std::string_view unified,
                      std::string_view field) const {
    for (const auto& [name, directory] : layout_.legacy) {
      if (!legacy.empty() && name == legacy) return Place{.directory = directory, .unified = false};
    }
    if (!unified.empty() && std::ranges::find(layout_.unified_controllers, unified) !=
                                layout_.unified_controllers.end()) {
      return Place{.directory = layout_.unified, .unified = true};
    }
    return missing(cat(kResources, field), unified.empty() ? legacy : unified);
  }

  Write& add(const Place& where, std::string file, std::string value, std::string_view field) {
    writes_.push_back({.directory = where.directory,
                       .file = std::move(file),
                       .value = std::move(value),
                       .field = cat(kResources, field)});
    return writes_.back();
  }

  Result<> cpu(const oci::CpuResources& cpu);
  Result<> cpu_legacy(const oci::CpuResources& cpu, const Place& where);
  Result<> cpu_unified(const oci::CpuResources& cpu, const Place& where);
  Result<> cpu_max(const oci::CpuResources& cpu, const Place& where);
  Result<> memory(const oci::MemoryResources& memory);
  Result<> memory_legacy(const oci::MemoryResources& memory, const Place& where);
  Result<> memory_unified(const oci::MemoryResources& memory, const Place& where);
  Result<> check_fits(const oci::MemoryResources& memory) const;
  Result<> pids(int64_t limit);
  Result<> block_io(const oci::BlockIoResources& io);
  Result<> block_io_weights(const oci::BlockIoResources& io, const Place& where);
  void throttle(const std::vector<oci::ThrottleDevice>& devices, const Place& where,
                std::string_view legacy_file, std::string_view unified_key, std::string_view field);
  Result<> hugepages(const oci::HugepageLimit& limit, const std::string& field);
  Result<> network(const oci::NetworkResources& network);
  Result<> rdma(const std::string& device, const oci::RdmaLimit& limit);
  Result<> unified(const std::string& file, const std::string& value);

  const Layout& layout_;
  const oci::Resources& resources_;
  std::vector<Write> writes_;
};

bool wants_cpu(const oci::CpuResources& cpu) {
  return cpu.shares.value_or(0) != 0 || cpu.quota.value_or(0) != 0 || cpu.period.value_or(0) != 0 ||
         cpu.burst || cpu.realtime_runtime.value_or(0) != 0 ||
         cpu.realtime_period.value_or(0) != 0 || cpu.idle;
}

bool wants_memory(const oci::MemoryResources& memory) {
  return memory.limit.value_or(0) != 0 || memory.reservation.value_or(0) != 0 ||
         memory.swap.value_or(0) != 0 || memory.kernel.value_or(0) != 0 ||
         memory.kernel_tcp.value_or(0) != 0 || memory.swappiness ||
         memory.disable_oom_killer.value_or(false) || memory.use_hierarchy;
}

Result<> Planner::cpu(const oci::CpuResources& cpu) {
  if (wants_cpu(cpu)) {
    const Place where = FLUYT_TRY(place("cpu", "cpu", "cpu"));
    FLUYT_TRY(where.unified ? cpu_unified(cpu, where) : cpu_legacy(cpu, where));
  }
  if (!cpu.cpus.empty()) {
    add(FLUYT_TRY(place("cpuset", "cpuset", "cpu.cpus")), "cpuset.cpus", cpu.cpus, "cpu.cpus");
  }
  if (!cpu.mems.empty()) {
    add(FLUYT_TRY(place("cpuset", "cpuset", "cpu.mems")), "cpuset.mems", cpu.mems, "cpu.mems");
  }
  return {};
}

Result<> Planner::cpu_legacy(const oci::CpuResources& cpu, const Place& where) {
  // An idle group has no shares; leaving idleness first lets them be set.
  if (cpu.idle && *cpu.idle == 0) add(where, "cpu.idle", "0", "cpu.idle");
  if (cpu.shares.value_or(0) != 0)
    add(where, "cpu.shares", std::to_string(*cpu.shares), "cpu.shares");
  if (cpu.idle && *cpu.idle != 0) add(where, "cpu.idle", std::to_string(*cpu.idle), "cpu.idle");
  if (cpu.realtime_period.value_or(0) != 0) {
    add(where, "cpu.rt_period_us", std::to_string(*cpu.realtime_period), "cpu.realtimePeriod");
  }
  if (cpu.realtime_runtime.value_or(0) != 0) {
    add(where, "cpu.rt_runtime_us", std::to_string(*cpu.realtime_runtime), "cpu.realtimeRuntime");
  }
  // The burst may not be above the quota, nor the quota's share above the parent's, at any moment:
  // what is refused now is tried again behind the others (apply.cc).
  if (cpu.period.value_or(0) != 0)
    add(where, "cpu.cfs_period_us", std::to_string(*cpu.period), "cpu.period");
  if (cpu.quota.value_or(0) != 0) {
    add(where, "cpu.cfs_quota_us", std::to_string(std::max<int64_t>(*cpu.quota, -1)), "cpu.quota");
  }
  if (cpu.burst) add(where, "cpu.cfs_burst_us", std::to_string(*cpu.burst), "cpu.burst");
  return {};
}

Result<> Planner::cpu_unified(const oci::CpuResources& cpu, const Place& where) {
  if (cpu.realtime_period.value_or(0) != 0) return not_on_v2("cpu.realtimePeriod");
  if (cpu.realtime_runtime.value_or(0) != 0) return not_on_v2("cpu.realtimeRuntime");
  if (cpu.idle && *cpu.idle == 0) add(where, "cpu.idle", "0", "cpu.idle");
  if (cpu.shares.value_or(0) != 0) {
    add(where, "cpu.weight", std::to_string(weight_of_shares(*cpu.shares)), "cpu.shares");
  }
  if (cpu.idle && *cpu.idle != 0) add(where, "cpu.idle", std::to_string(*cpu.idle), "cpu.idle");
  FLUYT_TRY(cpu_max(cpu, where));
  if (cpu.burst) add(where, "cpu.max.burst", std::to_string(*cpu.burst), "cpu.burst");
  return {};
}

// v2 keeps quota and period in one file: the half that the request leaves out stays as it is.
Result<> Planner::cpu_max(const oci::CpuResources& cpu, const Place& where) {
  const bool has_quota = cpu.quota.value_or(0) != 0;
  const bool has_period = cpu.period.value_or(0) != 0;
  if (!has_quota && !has_period) return {};
  const auto old = split_words(trim(layout_.current.cpu_max));
  std::string quota = old.size() == 2 ? std::string(old[0]) : "max";
  std::string period = old.size() == 2 ? std::string(old[1]) : "100000";
  if (has_quota) quota = *cpu.quota > 0 ? std::to_string(*cpu.quota) : "max";
  if (has_period) period = std::to_string(*cpu.period);
  add(where, "cpu.max", cat(quota, " ", period), has_quota ? "cpu.quota" : "cpu.period");
  return {};
}

Result<> Planner::memory(const oci::MemoryResources& memory) {
  FLUYT_TRY(check_fits(memory));
  if (!wants_memory(memory)) return {};
  const Place where = FLUYT_TRY(place("memory", "memory", "memory"));
  return where.unified ? memory_unified(memory, where) : memory_legacy(memory, where);
}

Result<> Planner::check_fits(const oci::MemoryResources& memory) const {
  if (!memory.check_before_update.value_or(false)) return {};
  const auto usage = layout_.current.memory_usage;
  const auto refuse = [&](std::string_view field, std::string_view what, int64_t limit) {
    return Error(Code::kFailedPrecondition, cat(kResources, field, ": rejecting ", what, " limit ",
                                                limit, ": the container uses ", *usage,
                                                " bytes already, and checkBeforeUpdate is set"));
  };
  const auto too_low = [&](int64_t limit) {
    return usage && limit > 0 && *usage > static_cast<uint64_t>(limit);
  };
  if (too_low(memory.swap.value_or(0))) return refuse("memory.swap", "memory+swap", *memory.swap);
  if (too_low(memory.limit.value_or(0))) return refuse("memory.limit", "memory", *memory.limit);
  return {};
}

Result<> Planner::memory_legacy(const oci::MemoryResources& memory, const Place& where) {
  const int64_t limit = memory.limit.value_or(0);
  int64_t swap = memory.swap.value_or(0);
  // No limit on memory cannot be had while one on memory and swap together stands.
  if (limit == -1 && swap == 0) swap = -1;
  if (swap > 0 && limit > 0 && swap < limit) {
    return invalid("memory.swap", std::to_string(swap),
                   cat("memory and swap together are below memory.limit ", limit));
  }
  const auto write_limit = [&] {
    if (limit != 0) add(where, "memory.limit_in_bytes", std::to_string(limit), "memory.limit");
  };
  const auto write_swap = [&] {
    if (swap == 0) return;
    Write& write = add(where, "memory.memsw.limit_in_bytes", std::to_string(swap), "memory.swap");
    // A kernel that does not account swap has nothing to lift.
    if (swap == -1) write.missing = Write::Missing::kFine;
  };
  // At every moment limit <= memsw must hold: when the new sum is above the present limit it goes
  // first.
  const int64_t present = layout_.current.memory_limit.value_or(-1);
  const bool swap_first = swap == -1 || (swap > 0 && present != -1 && present < swap);
  if (swap_first) write_swap();
  write_limit();
  if (!swap_first) write_swap();
  if (memory.reservation.value_or(0) != 0) {
    add(where, "memory.soft_limit_in_bytes", std::to_string(*memory.reservation),
        "memory.reservation");
  }
  if (memory.kernel.value_or(0) != 0) {
    add(where, "memory.kmem.limit_in_bytes", std::to_string(*memory.kernel), "memory.kernel");
  }
  if (memory.kernel_tcp.value_or(0) != 0) {
    add(where, "memory.kmem.tcp.limit_in_bytes", std::to_string(*memory.kernel_tcp),
        "memory.kernelTCP");
  }
  if (memory.use_hierarchy) {
    add(where, "memory.use_hierarchy", *memory.use_hierarchy ? "1" : "0", "memory.useHierarchy");
  }
  if (memory.disable_oom_killer.value_or(false)) {
    add(where, "memory.oom_control", "1", "memory.disableOOMKiller");
  }
  if (memory.swappiness) {
    if (*memory.swappiness > 100) {
      return invalid("memory.swappiness", std::to_string(*memory.swappiness), "expected 0 to 100");
    }
    add(where, "memory.swappiness", std::to_string(*memory.swappiness), "memory.swappiness");
  }
  return {};
}

// The sum that the spec knows, where there is a limit on it. It stays when memory.limit changes
// alone, as v1 has it by itself; a cgroup without swap stays without.
std::optional<int64_t> present_sum(const Layout::Current& current) {
  const int64_t memory = current.memory_limit.value_or(-1);
  const int64_t swap = current.swap_limit.value_or(-1);
  return memory < 0 || swap <= 0 ? std::nullopt : std::optional(memory + swap);
}

std::string number_or_max(int64_t value) { return value < 0 ? "max" : std::to_string(value); }

Result<> Planner::memory_unified(const oci::MemoryResources& memory, const Place& where) {
  if (memory.swappiness) return not_on_v2("memory.swappiness");
  if (memory.disable_oom_killer.value_or(false)) return not_on_v2("memory.disableOOMKiller");
  if (memory.kernel.value_or(0) > 0) return not_on_v2("memory.kernel");
  if (memory.kernel_tcp.value_or(0) > 0) return not_on_v2("memory.kernelTCP");
  if (memory.use_hierarchy && !*memory.use_hierarchy) return not_on_v2("memory.useHierarchy");
  const int64_t limit = memory.limit.value_or(0);
  int64_t swap = memory.swap.value_or(0);
  if (limit == -1 && swap == 0) swap = -1;
  // A sum that is too small for the limit, or that somebody sets by its file, is left to them.
  if (limit > 0 && swap == 0 && !resources_.unified.contains("memory.swap.max")) {
    const auto sum = present_sum(layout_.current);
    if (sum && *sum >= limit) swap = *sum;
  }
  if (swap != 0) {
    // The spec counts memory and swap together, v2 swap alone.
    std::string alone = "max";
    if (swap > 0) {
      const int64_t base = limit != 0 ? limit : layout_.current.memory_limit.value_or(-1);
      if (base < 0)
        return invalid("memory.swap", std::to_string(swap), "needs memory.limit on cgroup v2");
      if (swap < base) {
        return invalid("memory.swap", std::to_string(swap),
                       cat("memory and swap together are below memory.limit ", base));
      }
      alone = std::to_string(swap - base);
    }
    Write& write = add(where, "memory.swap.max", alone, "memory.swap");
    if (alone == "max" || alone == "0") write.missing = Write::Missing::kFine;
  }
  if (limit != 0) add(where, "memory.max", number_or_max(limit), "memory.limit");
  if (memory.reservation.value_or(0) != 0) {
    add(where, "memory.low", number_or_max(*memory.reservation), "memory.reservation");
  }
  return {};
}

Result<> Planner::pids(int64_t limit) {
  // 0 is a real limit: no process beside the first. So is 1, which systemd can say too.
  add(FLUYT_TRY(place("pids", "pids", "pids.limit")), "pids.max",
      number_or_max(limit == 0 ? 1 : limit), "pids.limit");
  return {};
}

Result<> Planner::block_io_weights(const oci::BlockIoResources& io, const Place& where) {
  const std::string_view field = "blockIO.weight";
  if (io.leaf_weight.value_or(0) != 0) {
    if (where.unified) return not_on_v2("blockIO.leafWeight");
    add(where, "blkio.leaf_weight", std::to_string(*io.leaf_weight), "blockIO.leafWeight");
  }
  if (io.weight.value_or(0) != 0) {
    if (*io.weight < 10 || *io.weight > 1000) {
      return invalid(field, std::to_string(*io.weight), "expected 10 to 1000");
    }
    const std::string plain = std::to_string(*io.weight);
    if (!where.unified) {
      add(where, layout_.bfq ? "blkio.bfq.weight" : "blkio.weight", plain, field);
    } else if (layout_.bfq) {
      add(where, "io.bfq.weight", cat("default ", plain), field).key = "default";
    } else {
      add(where, "io.weight", cat("default ", io_weight_of(*io.weight)), field).key = "default";
    }
  }
  for (size_t i = 0; i < io.weight_device.size(); ++i) {
    const oci::WeightDevice& device = io.weight_device[i];
    const std::string at = cat("blockIO.weightDevice[", i, "]");
    const std::string key = cat(device.major, ":", device.minor);
    if (device.weight.value_or(0) != 0) {
      const bool scaled = where.unified && !layout_.bfq;
      const std::string file =
          where.unified ? (layout_.bfq ? "io.bfq.weight" : "io.weight")
                        : (layout_.bfq ? "blkio.bfq.weight_device" : "blkio.weight_device");
      Write& write = add(where, file,
                         cat(key, " ", scaled ? io_weight_of(*device.weight) : *device.weight), at);
      write.key = key;
      write.reset = cat(key, where.unified ? " default" : " 0");
    }
    if (device.leaf_weight.value_or(0) != 0) {
      if (where.unified) return not_on_v2(at + ".leafWeight");
      Write& write = add(where, "blkio.leaf_weight_device", cat(key, " ", *device.leaf_weight), at);
      write.key = key;
      write.reset = cat(key, " 0");
    }
  }
  return {};
}

void Planner::throttle(const std::vector<oci::ThrottleDevice>& devices, const Place& where,
                       std::string_view legacy_file, std::string_view unified_key,
                       std::string_view field) {
  for (size_t i = 0; i < devices.size(); ++i) {
    const std::string key = cat(devices[i].major, ":", devices[i].minor);
    const std::string at = cat("blockIO.", field, "[", i, "]");
    const uint64_t rate = devices[i].rate;
    if (where.unified) {
      Write& write =
          add(where, "io.max",
              cat(key, " ", unified_key, "=", rate == 0 ? "max" : std::to_string(rate)), at);
      write.key = key;
      write.reset = cat(key, " ", unified_key, "=max");
    } else {
      Write& write = add(where, std::string(legacy_file), cat(key, " ", rate), at);
      write.key = key;
      write.reset = cat(key, " 0");
    }
  }
}

Result<> Planner::block_io(const oci::BlockIoResources& io) {
  if (io == oci::BlockIoResources{} ||
      (io.weight.value_or(0) == 0 && io.leaf_weight.value_or(0) == 0 && io.weight_device.empty() &&
       io.throttle_read_bps_device.empty() && io.throttle_write_bps_device.empty() &&
       io.throttle_read_iops_device.empty() && io.throttle_write_iops_device.empty())) {
    return {};
  }
  const Place where = FLUYT_TRY(place("blkio", "io", "blockIO"));
  FLUYT_TRY(block_io_weights(io, where));
  throttle(io.throttle_read_bps_device, where, "blkio.throttle.read_bps_device", "rbps",
           "throttleReadBpsDevice");
  throttle(io.throttle_write_bps_device, where, "blkio.throttle.write_bps_device", "wbps",
           "throttleWriteBpsDevice");
  throttle(io.throttle_read_iops_device, where, "blkio.throttle.read_iops_device", "riops",
           "throttleReadIOPSDevice");
  throttle(io.throttle_write_iops_device, where, "blkio.throttle.write_iops_device", "wiops",
           "throttleWriteIOPSDevice");
  return {};
}

// "2MB" and so on: digits and KB, MB or GB, as the kernel names its files.
bool is_page_size(std::string_view text) {
  if (text.size() < 3 || !(text.ends_with("KB") || text.ends_with("MB") || text.ends_with("GB")))
    return false;
  return parse_number<uint64_t>(text.substr(0, text.size() - 2)).has_value();
}

Result<> Planner::hugepages(const oci::HugepageLimit& limit, const std::string& field) {
  if (!is_page_size(limit.page_size)) {
    return invalid(cat(field, ".pageSize"), quote(limit.page_size), "expected a size such as 2MB");
  }
  const Place where = FLUYT_TRY(place("hugetlb", "hugetlb", field));
  const std::string value = std::to_string(limit.limit);
  const std::string prefix = cat("hugetlb.", limit.page_size, ".");
  // The reservation limit first (kernel 5.7): it refuses at mmap, where the other kills at the
  // fault.
  add(where, prefix + (where.unified ? "rsvd.max" : "rsvd.limit_in_bytes"), value, field).missing =
      Write::Missing::kFine;
  add(where, prefix + (where.unified ? "max" : "limit_in_bytes"), value, field);
  return {};
}

Result<> Planner::network(const oci::NetworkResources& network) {
  if (network.class_id.value_or(0) != 0) {
    add(FLUYT_TRY(place("net_cls", "", "network.classID")), "net_cls.classid",
        std::to_string(*network.class_id), "network.classID");
  }
  for (size_t i = 0; i < network.priorities.size(); ++i) {
    const oci::InterfacePriority& one = network.priorities[i];
    const std::string field = cat("network.priorities[", i, "]");
    if (one.name.empty() || one.name.find_first_of(" \t\n/") != std::string::npos) {
      return invalid(field, quote(one.name), "expected an interface's name");
    }
    add(FLUYT_TRY(place("net_prio", "", field)), "net_prio.ifpriomap",
        cat(one.name, " ", one.priority), field)
        .key = one.name;
  }
  return {};
}

Result<> Planner::rdma(const std::string& device, const oci::RdmaLimit& limit) {
  const std::string field = cat("rdma[", quote(device), "]");
  if (device.empty() || device.find_first_of(" \t\n") != std::string::npos) {
    return invalid(field, quote(device), "expected a device's name");
  }
  const Place where = FLUYT_TRY(place("rdma", "rdma", field));
  if (!limit.hca_handles && !limit.hca_objects) {
    return invalid(field, "{}", "expected hcaHandles or hcaObjects");
  }
  std::string value = device;
  if (limit.hca_handles) value += cat(" hca_handle=", *limit.hca_handles);
  if (limit.hca_objects) value += cat(" hca_object=", *limit.hca_objects);
  Write& write = add(where, "rdma.max", value, field);
  write.key = device;
  write.reset = cat(device, " hca_handle=max hca_object=max");
  return {};
}

Result<> Planner::unified(const std::string& file, const std::string& value) {
  const std::string field = cat("unified[", quote(file), "]");
  if (file.empty() || file.find('/') != std::string::npos || file.find('.') == std::string::npos ||
      file.starts_with('.') || has_control_characters(file)) {
    return invalid(field, quote(value), "expected a file name of cgroup v2, such as memory.high");
  }
  const std::string controller = file.substr(0, file.find('.'));
  if (layout_.unified.empty()) return missing(cat(kResources, field), "cgroup v2 is not mounted");
  if (controller != "cgroup" && std::ranges::find(layout_.unified_controllers, controller) ==
                                    layout_.unified_controllers.end()) {
    return missing(cat(kResources, field),
                   cat("cgroup v2 has no controller ", quote(controller), " here"));
  }
  // Files such as io.max take one line a write.
  for (const std::string_view line : split(trim(value), '\n')) {
    add({.directory = layout_.unified, .unified = true}, file, std::string(line), field);
  }
  return {};
}

}  // namespace

uint64_t weight_of_shares(uint64_t shares) {
  if (shares == 0) return 0;
  if (shares <= 2) return 1;
  if (shares >= 262'144) return 10'000;
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
  return static_cast<uint64_t>(std::ceil(std::pow(10.0, exponent)));
}

uint64_t io_weight_of(uint16_t weight) {
  return weight <= 10 ? 1 : 1 + (static_cast<uint64_t>(weight) - 10) * 9999 / 990;
}

Result<std::vector<Write>> plan_limits(const Layout& layout, const oci::Resources& resources) {
  return Planner(layout, resources).plan();
}

std::vector<Need> needs(const oci::Resources& resources) {
  std::vector<Need> out;
  const auto add = [&](std::string_view legacy, std::string_view unified, std::string_view field) {
    out.push_back({.legacy = std::string(legacy),
                   .unified = std::string(unified),
                   .field = cat(kResources, field)});
  };
  if (resources.cpu && wants_cpu(*resources.cpu)) add("cpu", "cpu", "cpu");
  if (resources.cpu && !resources.cpu->cpus.empty()) add("cpuset", "cpuset", "cpu.cpus");
  if (resources.cpu && !resources.cpu->mems.empty()) add("cpuset", "cpuset", "cpu.mems");
  if (resources.memory && wants_memory(*resources.memory)) add("memory", "memory", "memory");
  if (resources.pids_limit) add("pids", "pids", "pids.limit");
  if (resources.block_io && *resources.block_io != oci::BlockIoResources{})
    add("blkio", "io", "blockIO");
  if (!resources.hugepage_limits.empty()) add("hugetlb", "hugetlb", "hugepageLimits");
  if (resources.network && resources.network->class_id.value_or(0) != 0)
    add("net_cls", "", "network.classID");
  if (resources.network && !resources.network->priorities.empty())
    add("net_prio", "", "network.priorities");
  if (!resources.rdma.empty()) add("rdma", "rdma", "rdma");
  for (const auto& [file, value] : resources.unified) {
    const std::string_view controller = std::string_view(file).substr(0, file.find('.'));
    if (controller != "cgroup") add("", controller, cat("unified[", quote(file), "]"));
  }
  return out;
}

}  // namespace fluyt::runtime::cgroup
