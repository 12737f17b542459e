#include <algorithm>

#include "oci/runtime_spec_internal.h"

namespace fluyt::oci::internal {
namespace {

using json::Node;
using json::Object;

/// A device number; -1 means all, as an absent one does.
void read_device_number(const Object& object, std::string_view key, std::optional<int64_t>& out) {
  object.with(key, [&](const Node& at) {
    int64_t number = 0;
    read(at, number);
    if (number < -1 || number > UINT32_MAX) {
      at.expected("a device number, or -1 for all");
    } else if (number >= 0) {
      out = number;
    }
  });
}

void read_device_rule(const Node& node, DeviceRule& out) {
  const Object object(node);
  object.require("allow");
  object.field("allow", out.allow);
  object.with("type", [&](const Node& at) {
    std::string type;
    read(at, type);
    if (type.empty()) {
      return;
    }
    if (type.size() != 1 || std::string_view("acb").find(type[0]) == std::string_view::npos) {
      at.expected("one of a, c, b");
    }
    out.type = type[0];
  });
  read_device_number(object, "major", out.major);
  read_device_number(object, "minor", out.minor);
  object.with("access", [&](const Node& at) {
    read(at, out.access);
    // runc passes over an "a", and configurations in use have it.
    std::erase(out.access, 'a');
    if (out.access.find_first_not_of("rwm") != std::string::npos) {
      at.expected("letters of r, w and m");
    }
  });
}

void read_memory(const Node& node, MemoryResources& out) {
  const Object object(node);
  const auto amount = [&](std::string_view key, std::optional<int64_t>& value) {
    object.with(key, [&](const Node& at) {
      read(at, value.emplace());
      if (*value < -1) {
        at.expected("bytes, or -1 for no limit");
      }
    });
  };
  amount("limit", out.limit);
  amount("reservation", out.reservation);
  amount("swap", out.swap);
  amount("kernel", out.kernel);
  amount("kernelTCP", out.kernel_tcp);
  object.field("swappiness", out.swappiness);
  object.field("disableOOMKiller", out.disable_oom_killer);
  object.field("useHierarchy", out.use_hierarchy);
  object.field("checkBeforeUpdate", out.check_before_update);
}

/// "0-3,7": what cpuset files take; nothing else may reach them.
void read_cpu_list(const Object& object, std::string_view key, std::string& out) {
  object.with(key, [&](const Node& at) {
    read(at, out);
    if (out.find_first_not_of("0123456789,- \n") != std::string::npos) {
      at.expected("a list such as 0-3,7");
    }
  });
}

void read_cpu(const Node& node, CpuResources& out) {
  const Object object(node);
  object.field("shares", out.shares);
  object.field("quota", out.quota);
  object.field("burst", out.burst);
  object.field("period", out.period);
  object.field("realtimeRuntime", out.realtime_runtime);
  object.field("realtimePeriod", out.realtime_period);
  read_cpu_list(object, "cpus", out.cpus);
  read_cpu_list(object, "mems", out.mems);
  object.field("idle", out.idle);
}

void read_block_number(const Object& object, std::string_view key, int64_t& out) {
  object.require(key);
  object.with(key, [&](const Node& at) {
    read(at, out);
    if (out < 0 || out > UINT32_MAX) {
      at.expected("a device number");
    }
  });
}

void read_weight_device(const Node& node, WeightDevice& out) {
  const Object object(node);
  read_block_number(object, "major", out.major);
  read_block_number(object, "minor", out.minor);
  object.field("weight", out.weight);
  object.field("leafWeight", out.leaf_weight);
}

void read_throttle_device(const Node& node, ThrottleDevice& out) {
  const Object object(node);
  read_block_number(object, "major", out.major);
  read_block_number(object, "minor", out.minor);
  object.require("rate");
  object.field("rate", out.rate);
}

void read_block_io(const Node& node, BlockIoResources& out) {
  const Object object(node);
  object.field("weight", out.weight);
  object.field("leafWeight", out.leaf_weight);
  object.list("weightDevice", out.weight_device, read_weight_device);
  object.list("throttleReadBpsDevice", out.throttle_read_bps_device, read_throttle_device);
  object.list("throttleWriteBpsDevice", out.throttle_write_bps_device, read_throttle_device);
  object.list("throttleReadIOPSDevice", out.throttle_read_iops_device, read_throttle_device);
  object.list("throttleWriteIOPSDevice", out.throttle_write_iops_device, read_throttle_device);
}

/// config-linux.md: <number><unit prefix>B with no leading zero. It becomes part of a file's name.
bool is_page_size(std::string_view text) {
  if (text.size() < 3 || text.size() > 16 || !text.ends_with('B') ||
      std::string_view("KMG").find(text[text.size() - 2]) == std::string_view::npos) {
    return false;
  }
  const std::string_view digits = text.substr(0, text.size() - 2);
  return digits.front() != '0' && digits.find_first_not_of("0123456789") == std::string_view::npos;
}

void read_hugepage_limit(const Node& node, HugepageLimit& out) {
  const Object object(node);
  object.require("pageSize");
  object.with("pageSize", [&](const Node& at) {
    read(at, out.page_size);
    if (!is_page_size(out.page_size)) {
      at.expected("a page size such as 64KB, 2MB or 1GB");
    }
  });
  object.require("limit");
  object.field("limit", out.limit);
}

void read_interface_priority(const Node& node, InterfacePriority& out) {
  const Object object(node);
  object.require("name");
  object.require("priority");
  object.field("name", out.name);
  object.field("priority", out.priority);
}

void read_network(const Node& node, NetworkResources& out) {
  const Object object(node);
  object.field("classID", out.class_id);
  object.list("priorities", out.priorities, read_interface_priority);
}

void read_rdma(const Node& node, RdmaLimit& out) {
  const Object object(node);
  object.field("hcaHandles", out.hca_handles);
  object.field("hcaObjects", out.hca_objects);
}

/// Keys are names of files in the cgroup's folder, and must stay there.
bool is_cgroup_file(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && !has_control_characters(name);
}

void read_unified(const Node& node, std::map<std::string, std::string>& out) {
  read(node, out);
  for (const auto& [name, value] : out) {
    if (!is_cgroup_file(name)) {
      node.refuse(cat("key ", quote(name), ": expected the name of a cgroup file"));
    }
  }
}

}  // namespace

void read_resources(const Node& node, Resources& out) {
  const Object object(node);
  object.list("devices", out.devices, read_device_rule);
  object.object("memory", out.memory, read_memory);
  object.object("cpu", out.cpu, read_cpu);
  object.object("blockIO", out.block_io, read_block_io);
  object.list("hugepageLimits", out.hugepage_limits, read_hugepage_limit);
  object.object("network", out.network, read_network);
  object.with("pids", [&](const Node& at) {
    const Object pids(at);
    pids.with("limit", [&](const Node& limit) {
      read(limit, out.pids_limit.emplace());
      if (*out.pids_limit < -1) {
        limit.expected("a number of processes, or -1 for no limit");
      }
    });
  });
  object.map("rdma", out.rdma, read_rdma);
  object.with("unified", [&](const Node& at) { read_unified(at, out.unified); });
}

}  // namespace fluyt::oci::internal

namespace fluyt::oci {

Result<Resources> parse_resources(std::string_view text) {
  const json::Json document = FLUYT_TRY_CONTEXT(json::parse_text(text, kMaxSpecBytes), "resources");
  json::Findings findings;
  Resources out;
  internal::read_resources(json::Node(document, findings), out);
  FLUYT_TRY_CONTEXT(findings.take(), "resources");
  return out;
}

}  // namespace fluyt::oci
