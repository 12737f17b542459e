#include "engine/record.h"

#include <nlohmann/json.hpp>

#include "base/strings.h"

namespace nlohmann {

template <class T>
struct adl_serializer<std::optional<T>> {
  static void to_json(json& out, const std::optional<T>& value) {
    if (value) {
      out = *value;
    } else {
      out = nullptr;
    }
  }
  static void from_json(const json& in, std::optional<T>& value) {
    if (in.is_null()) {
      value.reset();
    } else {
      value = in.get<T>();
    }
  }
};

}  // namespace nlohmann

namespace fluyt::engine {

using nlohmann::json;

// The library's macro writes both directions from one list of members, so that they cannot differ.
NLOHMANN_JSON_SERIALIZE_ENUM(NamespaceMode, {{NamespaceMode::kPod, "pod"},
                                             {NamespaceMode::kContainer, "container"},
                                             {NamespaceMode::kNode, "node"},
                                             {NamespaceMode::kTarget, "target"}})
NLOHMANN_JSON_SERIALIZE_ENUM(SecurityProfile::Type,
                             {{SecurityProfile::Type::kRuntimeDefault, "runtime"},
                              {SecurityProfile::Type::kUnconfined, "unconfined"},
                              {SecurityProfile::Type::kLocalhost, "localhost"}})
NLOHMANN_JSON_SERIALIZE_ENUM(GroupsPolicy,
                             {{GroupsPolicy::kMerge, "merge"}, {GroupsPolicy::kStrict, "strict"}})
NLOHMANN_JSON_SERIALIZE_ENUM(Propagation, {{Propagation::kPrivate, "private"},
                                           {Propagation::kHostToContainer, "host to container"},
                                           {Propagation::kBidirectional, "bidirectional"}})
NLOHMANN_JSON_SERIALIZE_ENUM(CgroupDriver, {{CgroupDriver::kCgroupfs, "cgroupfs"},
                                            {CgroupDriver::kSystemd, "systemd"}})
NLOHMANN_JSON_SERIALIZE_ENUM(SandboxState, {{SandboxState::kCreating, "creating"},
                                            {SandboxState::kReady, "ready"},
                                            {SandboxState::kNotReady, "not ready"}})
NLOHMANN_JSON_SERIALIZE_ENUM(ContainerState, {{ContainerState::kCreating, "creating"},
                                              {ContainerState::kCreated, "created"},
                                              {ContainerState::kRunning, "running"},
                                              {ContainerState::kExited, "exited"}})

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(IdMap, container_id, host_id, length)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(UserIds, uids, gids)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(NamespaceOptions, network, pid, ipc, user, user_ids,
                                                target_id)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(SecurityProfile, type, localhost_ref)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(SelinuxOptions, user, role, type, level)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Resources, cpu_period, cpu_quota, cpu_shares,
                                                memory_limit_bytes, memory_swap_limit_bytes,
                                                oom_score_adj, pids_limit, cpuset_cpus, cpuset_mems,
                                                hugepage_limits, unified)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(PortMapping, protocol, container_port, host_port,
                                                host_ip)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(DnsConfig, servers, searches, options)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(SandboxName, name, name_space, uid, attempt)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(SandboxConfig, name, hostname, log_directory, dns,
                                                port_mappings, labels, annotations, cgroup_parent,
                                                namespaces, sysctls, seccomp, run_as_user,
                                                run_as_group, supplemental_groups, readonly_rootfs,
                                                privileged, selinux, overhead, resources)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Mount, container_path, host_path, readonly,
                                                recursive_readonly, propagation, selinux_relabel,
                                                uid_maps, gid_maps, image, image_sub_path,
                                                user_specified_image, image_id)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Device, container_path, host_path, permissions)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(
    SecurityContext, add_capabilities, drop_capabilities, add_ambient_capabilities, privileged,
    readonly_rootfs, no_new_privs, namespaces, run_as_user, run_as_group, run_as_username,
    supplemental_groups, groups_policy, masked_paths, readonly_paths, seccomp, apparmor, selinux)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ContainerName, name, attempt)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(EnvVar, name, value)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ContainerConfig, name, image, user_specified_image,
                                                command, args, working_dir, envs, mounts, devices,
                                                cdi_devices, labels, annotations, log_path,
                                                open_stdin, stdin_once, tty, resources, security,
                                                stop_signal)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(NamespacePaths, user, network, ipc, uts, pid)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ContainerUser, uid, gid, groups)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(CgroupPaths, unified, legacy, holder)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Sandbox, id, config, runtime_handler, handler,
                                                state, created_at, namespaces, ips, network_result,
                                                network_attached, monitor_pid, boot_id, reason,
                                                cgroup_parent, cgroup_driver, process_label,
                                                file_label, own_container)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Container, id, sandbox_id, config, state, image_id,
                                                image_digest, image_name, log_path, stop_signal,
                                                created_at, started_at, finished_at, pid, exit_code,
                                                reason, message, user, argv, cgroup, process_json,
                                                file_label)

namespace {

/// An argument or a variable may hold bytes that are not UTF-8, which JSON has no place for: then
/// the record is CBOR, whose first byte is never '{'.
template <class T>
std::string encode(const T& value) {
  const json tree = value;
  try {
    return tree.dump();
  } catch (const json::type_error&) {
    std::string bytes;
    json::to_cbor(tree, bytes);
    return bytes;
  }
}

template <class T>
Result<T> decode(std::string_view bytes) {
  try {
    const json tree = bytes.starts_with('{') ? json::parse(bytes) : json::from_cbor(bytes);
    T value = tree.get<T>();
    if (value.id.empty()) return Error(Code::kDataLoss, "record without an id");
    return value;
  } catch (const json::exception& e) {
    return Error(Code::kDataLoss, cat("not a record: ", quote(e.what())));
  }
}

}  // namespace

std::string to_record(const Sandbox& sandbox) { return encode(sandbox); }
std::string to_record(const Container& container) { return encode(container); }
Result<Sandbox> parse_sandbox_record(std::string_view bytes) { return decode<Sandbox>(bytes); }
Result<Container> parse_container_record(std::string_view bytes) {
  return decode<Container>(bytes);
}

}  // namespace fluyt::engine
