#include <algorithm>
#include <array>

#include "oci/runtime_spec_internal.h"

namespace fluyt::oci {
namespace {

struct NamespaceName {
  NamespaceType type;
  std::string_view name;
};
constexpr std::array<NamespaceName, 8> kNamespaceNames = {{{NamespaceType::kPid, "pid"},
                                                           {NamespaceType::kNetwork, "network"},
                                                           {NamespaceType::kMount, "mount"},
                                                           {NamespaceType::kIpc, "ipc"},
                                                           {NamespaceType::kUts, "uts"},
                                                           {NamespaceType::kUser, "user"},
                                                           {NamespaceType::kCgroup, "cgroup"},
                                                           {NamespaceType::kTime, "time"}}};

}  // namespace

std::string_view namespace_name(NamespaceType type) {
  for (const NamespaceName& entry : kNamespaceNames) {
    if (entry.type == type) {
      return entry.name;
    }
  }
  return "unknown";
}

}  // namespace fluyt::oci

namespace fluyt::oci::internal {
namespace {

using json::Node;
using json::Object;

constexpr size_t kMaxMappings = 340;  // user_namespaces(7)
constexpr size_t kMaxInterfaceName = 15;

constexpr std::string_view kPropagations[] = {"shared",  "slave",  "private",  "unbindable",
                                              "rshared", "rslave", "rprivate", "runbindable"};
constexpr std::string_view kMemoryModes[] = {
    "MPOL_DEFAULT",   "MPOL_BIND",           "MPOL_INTERLEAVE", "MPOL_WEIGHTED_INTERLEAVE",
    "MPOL_PREFERRED", "MPOL_PREFERRED_MANY", "MPOL_LOCAL"};
constexpr std::string_view kMemoryFlags[] = {"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES",
                                             "MPOL_F_STATIC_NODES"};
constexpr std::string_view kPersonalities[] = {"LINUX", "LINUX32"};
constexpr std::string_view kClocks[] = {"monotonic", "boottime"};

void read_mapping(const Node& node, IdMapping& out) {
  const Object object(node);
  for (const char* key : {"containerID", "hostID", "size"}) {
    object.require(key);
  }
  object.field("containerID", out.container_id);
  object.field("hostID", out.host_id);
  object.field("size", out.size);
  // 4294967295 is "no id" to the kernel and must not be mapped.
  const auto last = [&](uint32_t first) { return uint64_t{first} + out.size; };
  if (out.size == 0 || last(out.container_id) > UINT32_MAX || last(out.host_id) > UINT32_MAX) {
    object.refuse("size", cat(out.size, ": expected 1 or more ids, none above 4294967294"));
  }
}

bool overlap(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size) {
  return uint64_t{a} < uint64_t{b} + b_size && uint64_t{b} < uint64_t{a} + a_size;
}

void read_namespace_type(const Node& node, NamespaceType& out) {
  std::string name;
  read(node, name);
  std::vector<std::string_view> names;
  for (const NamespaceName& entry : kNamespaceNames) {
    if (entry.name == name) {
      out = entry.type;
      return;
    }
    names.push_back(entry.name);
  }
  node.expected(json::one_of_text(names));
}

void read_namespace(const Node& node, Namespace& out) {
  const Object object(node);
  object.require("type");
  object.object("type", out.type, read_namespace_type);
  object.with("path", [&](const Node& at) {
    read(at, out.path);
    if (!out.path.empty() && !out.path.starts_with('/')) {
      at.expected("an absolute path");
    }
  });
}

void read_namespaces(const Node& node, std::vector<Namespace>& out) {
  read_list(node, out, read_namespace);
  for (size_t i = 1; i < out.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (out[k].type == out[i].type) {
        node.refuse(cat(namespace_name(out[i].type), " stands twice"));
      }
    }
  }
}

void read_time_offset(const Node& node, TimeOffset& out) {
  const Object object(node);
  object.field("secs", out.secs);
  object.with("nanosecs", [&](const Node& at) {
    read(at, out.nanosecs);
    if (out.nanosecs > 999'999'999) {
      at.expected("at most 999999999");
    }
  });
}

void read_time_offsets(const Node& node, std::map<std::string, TimeOffset>& out) {
  read_map(node, out, read_time_offset);
  for (const auto& [clock, offset] : out) {
    if (!json::is_one_of(clock, kClocks)) {
      node.refuse(cat("key ", quote(clock), ": expected ", json::one_of_text(kClocks)));
    }
  }
}

void read_device_type(const Node& node, char& out) {
  std::string type;
  read(node, type);
  if (type.size() != 1 || std::string_view("cbup").find(type[0]) == std::string_view::npos) {
    node.expected("one of c, b, u, p");
    return;
  }
  out = type[0];
}

void read_device(const Node& node, Device& out) {
  const Object object(node);
  object.require("type");
  object.require("path");
  object.object("type", out.type, read_device_type);
  object.object("path", out.path, read_absolute);
  const auto number = [&](std::string_view key, int64_t& value) {
    if (out.type != 'p') {
      object.require(key);
    }
    object.with(key, [&](const Node& at) {
      read(at, value);
      if (value < 0 || value > UINT32_MAX) {
        at.expected("a device number");
      }
    });
  };
  number("major", out.major);
  number("minor", out.minor);
  object.field("fileMode", out.file_mode);
  object.field("uid", out.uid);
  object.field("gid", out.gid);
}

bool is_interface_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxInterfaceName && name != "." && name != ".." &&
         name.find_first_of("/: \t\n\v\f\r") == std::string_view::npos &&
         !has_control_characters(name);
}

void read_net_devices(const Node& node, std::map<std::string, std::string>& out) {
  read_map(node, out, [](const Node& at, std::string& name) { Object(at).field("name", name); });
  for (const auto& [host, container] : out) {
    if (!is_interface_name(host) || !(container.empty() || is_interface_name(container))) {
      node.refuse(cat(quote(host), " to ", quote(container), ": expected interface names"));
    }
  }
}

void read_intel_rdt(const Node& node, IntelRdt& out) {
  const Object object(node);
  object.with("closID", [&](const Node& at) {
    read(at, out.clos_id);
    const bool inner_slash = out.clos_id != "/" && out.clos_id.find('/') != std::string::npos;
    if (out.clos_id == "." || out.clos_id == ".." || inner_slash) {
      at.expected("the name of one folder, or /");
    }
  });
  object.field("l3CacheSchema", out.l3_cache_schema);
  object.field("memBwSchema", out.mem_bw_schema);
  object.field("schemata", out.schemata);
  object.field("enableMonitoring", out.enable_monitoring);
}

// In words that callers of other runtimes look for.
void read_memory_policy(const Node& node, MemoryPolicy& out) {
  const Object object(node);
  if (!object.has("mode")) object.refuse("mode", "missing: invalid memory policy mode");
  auto known = [](const Node& at, std::string_view what, std::string& name,
                  std::span<const std::string_view> names) {
    read(at, name);
    if (!json::is_one_of(name, names)) {
      at.refuse(cat("invalid memory policy ", what, " ", quote(name), ": expected ",
                    json::one_of_text(names)));
    }
  };
  object.with("mode", [&](const Node& at) { known(at, "mode", out.mode, kMemoryModes); });
  object.field("nodes", out.nodes);
  object.list("flags", out.flags,
              [&](const Node& at, std::string& flag) { known(at, "flag", flag, kMemoryFlags); });
}

void read_personality(const Node& node, Personality& out) {
  const Object object(node);
  object.require("domain");
  object.one_of("domain", out.domain, kPersonalities);
  object.with("flags", [&](const Node& at) {
    read(at, out.flags);
    if (!out.flags.empty()) {
      at.expected("no flags: the specification has none");
    }
  });
}

void read_absolute_list(const Node& node, std::vector<std::string>& out) {
  read_list(node, out, read_absolute);
}

}  // namespace

void read_mappings(const Node& node, std::vector<IdMapping>& out) {
  read_list(node, out, read_mapping);
  if (out.size() > kMaxMappings) {
    node.refuse(cat(out.size(), " mappings: expected at most ", kMaxMappings));
    return;
  }
  for (size_t i = 1; i < out.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      if (overlap(out[i].container_id, out[i].size, out[k].container_id, out[k].size) ||
          overlap(out[i].host_id, out[i].size, out[k].host_id, out[k].size)) {
        node.refuse(cat("[", i, "] overlaps [", k, "]"));
      }
    }
  }
}

void read_linux(const Node& node, Linux& out) {
  const Object object(node);
  object.with("namespaces", [&](const Node& at) { read_namespaces(at, out.namespaces); });
  object.object("uidMappings", out.uid_mappings, read_mappings);
  object.object("gidMappings", out.gid_mappings, read_mappings);
  object.with("timeOffsets", [&](const Node& at) { read_time_offsets(at, out.time_offsets); });
  object.list("devices", out.devices, read_device);
  object.with("netDevices", [&](const Node& at) { read_net_devices(at, out.net_devices); });
  object.field("cgroupsPath", out.cgroups_path);
  object.object("resources", out.resources, read_resources);
  object.object("intelRdt", out.intel_rdt, read_intel_rdt);
  object.object("memoryPolicy", out.memory_policy, read_memory_policy);
  object.field("sysctl", out.sysctl);
  object.object("seccomp", out.seccomp, read_seccomp);
  object.with("rootfsPropagation", [&](const Node& at) {
    read(at, out.rootfs_propagation);
    if (!out.rootfs_propagation.empty() &&
        !json::is_one_of(out.rootfs_propagation, kPropagations)) {
      at.expected(json::one_of_text(kPropagations));
    }
  });
  object.object("maskedPaths", out.masked_paths, read_absolute_list);
  object.object("readonlyPaths", out.readonly_paths, read_absolute_list);
  object.field("mountLabel", out.mount_label);
  object.object("personality", out.personality, read_personality);
}

}  // namespace fluyt::oci::internal
