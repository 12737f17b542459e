#include "spec/container_spec.h"

#include <algorithm>

#include "base/id.h"
#include "base/strings.h"
#include "spec/capabilities.h"
#include "spec/default_seccomp.h"
#include "spec/mounts.h"
#include "spec/process.h"

namespace fluyt::spec {
namespace {

constexpr std::string_view kSecurity = "linux.security_context.";
constexpr int64_t kMaxOomScore = 1000;

// What says more about the host than a container should know, or would let it change the host.
constexpr const char* kMaskedPaths[] = {
    "/proc/acpi",       "/proc/asound",      "/proc/interrupts",
    "/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap"};
constexpr const char* kReadonlyPaths[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                          "/proc/sysrq-trigger"};

Error wrong(std::string_view field, std::string_view value, std::string_view expected) {
  return {Code::kInvalidArgument,
          cat(kSecurity, field, ": ", quote(value), ": expected ", expected)};
}

Result<> check_request(const Container& container, const Sandbox& sandbox) {
  if (!is_valid_container_id(container.id)) {
    return Error(Code::kInvalidArgument,
                 cat("container id ", quote(container.id), ": expected letters, digits and _+.-"));
  }
  if (container.security.privileged && !sandbox.privileged) {
    return Error(Code::kPermissionDenied,
                 cat(kSecurity, "privileged: expected a sandbox that is privileged too"));
  }
  for (const auto& [key, value] : container.annotations) {
    if (!is_utf8(key) || !is_utf8(value)) {
      return Error(Code::kInvalidArgument,
                   cat("annotations: ", quote(key), ": expected UTF-8 text"));
    }
  }
  return {};
}

std::vector<std::string> capabilities_of(const Host& host) {
  if (!host.capabilities.empty()) {
    return host.capabilities;
  }
  const auto all = all_capabilities();
  return {all.begin(), all.end()};
}

/// Absolute, without a way out: the cgroup is made below the parent. Or slice, prefix and name of a
/// scope.
Result<std::string> cgroups_path(const Sandbox& sandbox, const std::string& id) {
  if (!sandbox.cgroup_slice.empty()) return cat(sandbox.cgroup_slice, ":", kScopePrefix, ":", id);
  const std::string& parent = sandbox.cgroup_parent;
  for (const std::string_view word : split(parent, '/')) {
    if (word == ".." || word == ".") {
      return Error(Code::kInvalidArgument,
                   cat("linux.cgroup_parent: ", quote(parent), ": expected a path without \"..\""));
    }
  }
  if (!parent.starts_with('/') || has_control_characters(parent) || !is_utf8(parent)) {
    return Error(Code::kInvalidArgument,
                 cat("linux.cgroup_parent: ", quote(parent), ": expected an absolute path"));
  }
  return cat(parent, parent.ends_with('/') ? "" : "/", id);
}

Result<> add_namespace(oci::Linux& out, oci::NamespaceType type, const NamespaceSource& source) {
  switch (source.kind) {
    case NamespaceSource::Kind::kHost:
      return {};
    case NamespaceSource::Kind::kNew:
      out.namespaces.push_back({.type = type, .path = {}});
      return {};
    case NamespaceSource::Kind::kJoin:
      break;
  }
  if (!source.path.starts_with('/')) {
    return Error(Code::kInvalidArgument, cat("namespace ", oci::namespace_name(type), ": ",
                                             quote(source.path), ": expected an absolute path"));
  }
  out.namespaces.push_back({.type = type, .path = source.path});
  return {};
}

Result<> add_namespaces(oci::Linux& out, const Container& container, const Host& host) {
  using Type = oci::NamespaceType;
  const Namespaces& asked = container.namespaces;
  // The user namespace first: it is the one that owns the others.
  FLUYT_TRY(add_namespace(out, Type::kUser, asked.user));
  FLUYT_TRY(add_namespace(out, Type::kPid, asked.pid));
  FLUYT_TRY(add_namespace(out, Type::kIpc, asked.ipc));
  FLUYT_TRY(add_namespace(out, Type::kUts, asked.uts));
  FLUYT_TRY(add_namespace(out, Type::kMount, NamespaceSource{}));
  FLUYT_TRY(add_namespace(out, Type::kNetwork, asked.network));
  if (host.cgroup_namespaces && !container.security.privileged) {
    FLUYT_TRY(add_namespace(out, Type::kCgroup, NamespaceSource{}));
  }
  if (asked.user.kind == NamespaceSource::Kind::kNew &&
      (asked.uid_mappings.empty() || asked.gid_mappings.empty())) {
    return Error(
        Code::kInvalidArgument,
        cat(kSecurity, "namespace_options.userns_options: expected mappings of both kinds"));
  }
  if (asked.user.kind != NamespaceSource::Kind::kHost) {
    out.uid_mappings = asked.uid_mappings;
    out.gid_mappings = asked.gid_mappings;
  }
  return {};
}

Result<> add_device(oci::Linux& out, const Device& device, const std::string& field) {
  const bool letters = device.permissions.find_first_not_of("rwm") == std::string::npos &&
                       !device.permissions.empty();
  if (!letters) {
    return Error(Code::kInvalidArgument, cat(field, ".permissions: ", quote(device.permissions),
                                             ": expected letters of r, w and m"));
  }
  const std::string& path = device.container_path;
  if (!path.starts_with('/') || path.find("/../") != std::string::npos || path.ends_with("/..") ||
      !is_utf8(path) || has_control_characters(path)) {
    return Error(Code::kInvalidArgument, cat(field, ".container_path: ", quote(path),
                                             ": expected an absolute path without \"..\""));
  }
  if (device.type != 'c' && device.type != 'b') {
    return Error(Code::kInvalidArgument,
                 cat(field, ".host_path: expected a character or block device"));
  }
  out.devices.push_back({.path = path,
                         .type = device.type,
                         .major = device.major,
                         .minor = device.minor,
                         .file_mode = device.file_mode & 07777U,
                         .uid = device.uid,
                         .gid = device.gid});
  out.resources->devices.push_back({.allow = true,
                                    .type = device.type,
                                    .major = device.major,
                                    .minor = device.minor,
                                    .access = device.permissions});
  return {};
}

Result<> add_devices(oci::Linux& out, const Container& container) {
  std::vector<oci::DeviceRule>& rules = out.resources->devices;
  if (container.security.privileged) {
    for (size_t i = 0; i < container.host_devices.size(); ++i) {
      FLUYT_TRY(add_device(out, container.host_devices[i], cat("host_devices[", i, "]")));
    }
  } else {
    rules.push_back({.allow = false, .access = "rwm"});
  }
  for (size_t i = 0; i < container.devices.size(); ++i) {
    const std::string& path = container.devices[i].container_path;
    std::erase_if(out.devices, [&](const oci::Device& one) { return one.path == path; });
    FLUYT_TRY(add_device(out, container.devices[i], cat("devices[", i, "]")));
  }
  if (container.security.privileged) {  // one rule says it all
    rules.assign(1, {.allow = true, .access = "rwm"});
  }
  return {};
}

Result<std::optional<oci::Seccomp>> seccomp_of(const Security& security,
                                               const oci::Capabilities& capabilities,
                                               const Host& host) {
  using Outcome = std::optional<oci::Seccomp>;
  if (security.privileged || !security.seccomp) {
    return Outcome();
  }
  switch (security.seccomp->type) {
    case ProfileType::kUnconfined:
      return Outcome();
    case ProfileType::kLocalhost:
      if (!security.seccomp->localhost) {
        return wrong("seccomp", "Localhost", "the profile's content");
      }
      return security.seccomp->localhost;
    case ProfileType::kRuntimeDefault:
      break;
  }
  return Outcome(default_seccomp(capabilities.bounding, host.platform.architecture));
}

Result<std::string> apparmor_of(const Security& security, const Host& host) {
  const ApparmorProfile asked = security.apparmor.value_or(ApparmorProfile{});
  if (asked.type == ProfileType::kLocalhost) {
    if (!host.apparmor) {
      return Error(Code::kFailedPrecondition, cat(kSecurity, "apparmor: ", quote(asked.localhost),
                                                  ": the host has no AppArmor"));
    }
    if (asked.localhost.empty() || has_control_characters(asked.localhost) ||
        !is_utf8(asked.localhost)) {
      return wrong("apparmor.localhost_ref", asked.localhost, "the name of a loaded profile");
    }
    return asked.localhost;
  }
  if (!host.apparmor || asked.type == ProfileType::kUnconfined || security.privileged) {
    return std::string();
  }
  // Who says nothing gets what there is; who asks for confinement by name is not left without.
  if (security.apparmor && host.apparmor_default.empty()) {
    return Error(Code::kFailedPrecondition,
                 cat(kSecurity,
                     "apparmor: RuntimeDefault: the profile fluyt-default is not loaded: "
                     "apparmor_parser --replace /etc/apparmor.d/fluyt-default"));
  }
  return host.apparmor_default;
}

/// The labels of the container's program and files; none on a host without SELinux, or in a pod
/// that was made without. A program whose restrictions SELinux is not to add to has none of its
/// own: a privileged one, as CRI says, and one among the host's processes or IPC objects unless
/// somebody chose its label. The policy says what it runs under then. Its files have one.
Result<std::optional<SelinuxLabels>> selinux_of(const Container& container, const Sandbox& sandbox,
                                                const Host& host) {
  using Labels = std::optional<SelinuxLabels>;
  const SelinuxOptions& asked = container.security.selinux;
  const bool asks = asked != SelinuxOptions{};
  if (!sandbox.selinux && !host.selinux) {
    if (!asks || host.no_selinux.empty()) return Labels();
    return Error(Code::kFailedPrecondition, cat(kSecurity, "selinux_options: ", host.no_selinux));
  }
  if (!sandbox.selinux && !asks) return Labels();
  SelinuxLabels labels =
      FLUYT_TRY_CONTEXT(selinux_labels(sandbox.selinux ? *sandbox.selinux : *host.selinux, asked),
                        cat(kSecurity, "selinux_options"));
  const auto is_hosts = [](const NamespaceSource& source) {
    return source.kind == NamespaceSource::Kind::kHost;
  };
  const bool among_hosts = is_hosts(container.namespaces.pid) || is_hosts(container.namespaces.ipc);
  if (container.security.privileged || (among_hosts && !asks && !sandbox.selinux_asked))
    labels.process = {};
  return Labels(std::move(labels));
}

Result<std::vector<std::string>> paths_of(std::string_view field,
                                          const std::optional<std::vector<std::string>>& asked,
                                          std::span<const char* const> usual) {
  if (!asked) {
    return std::vector<std::string>(usual.begin(), usual.end());
  }
  for (const std::string& path : *asked) {
    if (!path.starts_with('/') || !is_utf8(path) || has_control_characters(path)) {
      return wrong(field, path, "an absolute path");
    }
  }
  return *asked;
}

Result<int32_t> oom_score_of(int64_t asked, const Host& host) {
  if (asked < -kMaxOomScore || asked > kMaxOomScore) {
    return Error(Code::kInvalidArgument, cat("linux.resources.oom_score_adj: ", asked,
                                             ": expected a score from -1000 to 1000"));
  }
  return std::max(static_cast<int32_t>(asked), host.oom_score_floor);
}

bool maps(const std::vector<oci::IdMapping>& mappings, uint32_t id) {
  return std::any_of(mappings.begin(), mappings.end(), [&](const oci::IdMapping& one) {
    return id >= one.container_id && id - one.container_id < one.size;
  });
}

/// In a user namespace a process can only be somebody whom that knows.
Result<> check_mapped(const Namespaces& namespaces, const Identity& identity) {
  if (namespaces.uid_mappings.empty() || namespaces.gid_mappings.empty()) return {};
  if (!maps(namespaces.uid_mappings, identity.uid)) {
    return Error(Code::kInvalidArgument,
                 cat(kSecurity, "run_as_user: ", identity.uid,
                     ": expected a user of the pod's user namespace, or an image whose user is"));
  }
  std::vector<uint32_t> groups = identity.groups;
  groups.push_back(identity.gid);
  for (const uint32_t group : groups) {
    if (maps(namespaces.gid_mappings, group)) continue;
    return Error(Code::kInvalidArgument,
                 cat(kSecurity, group == identity.gid ? "run_as_group: " : "supplemental_groups: ",
                     group, ": expected a group of the pod's user namespace"));
  }
  return {};
}

Result<oci::Process> process_of(const Container& container, const Sandbox& sandbox,
                                const oci::ImageConfig& image, const Host& host) {
  const Security& security = container.security;
  const Identity identity =
      FLUYT_TRY(resolve_user(container.user, image.config.user, container.user_files));
  FLUYT_TRY(check_mapped(container.namespaces, identity));
  oci::Process process;
  process.terminal = container.tty;
  process.user = {.uid = identity.uid, .gid = identity.gid, .additional_gids = identity.groups};
  process.args = FLUYT_TRY(internal::program_of(container, image));
  process.env = FLUYT_TRY(internal::environment_of(container, sandbox, image, identity.home));
  process.cwd = FLUYT_TRY(internal::working_dir_of(container, image));
  const auto all = capabilities_of(host);
  process.capabilities =
      security.privileged
          ? every_capability(all)
          : FLUYT_TRY_CONTEXT(capability_sets(security.add_capabilities, security.drop_capabilities,
                                              security.add_ambient_capabilities, all),
                              kSecurity);
  process.rlimits = container.rlimits;
  process.no_new_privileges = security.no_new_privs;
  process.apparmor_profile = FLUYT_TRY(apparmor_of(security, host));
  process.oom_score_adj = FLUYT_TRY(oom_score_of(container.resources.oom_score_adj, host));
  return process;
}

Result<oci::Linux> linux_of(const Container& container, const Sandbox& sandbox, const Host& host,
                            const oci::Capabilities& capabilities) {
  const Security& security = container.security;
  oci::Linux out;
  FLUYT_TRY(add_namespaces(out, container, host));
  out.cgroups_path = FLUYT_TRY(cgroups_path(sandbox, container.id));
  out.resources = FLUYT_TRY(resources_of(container.resources, host));
  FLUYT_TRY(add_devices(out, container));
  out.seccomp = FLUYT_TRY(seccomp_of(security, capabilities, host));
  if (!security.privileged) {
    out.masked_paths = FLUYT_TRY(paths_of("masked_paths", security.masked_paths, kMaskedPaths));
    out.readonly_paths =
        FLUYT_TRY(paths_of("readonly_paths", security.readonly_paths, kReadonlyPaths));
  }
  return out;
}

}  // namespace

Result<oci::Spec> container_spec(const Container& container, const Sandbox& sandbox,
                                 const oci::ImageConfig& image, const Host& host) {
  FLUYT_TRY(check_request(container, sandbox));
  oci::Spec spec;
  spec.process = FLUYT_TRY(process_of(container, sandbox, image, host));
  spec.root = oci::Root{.path = container.rootfs, .readonly = container.security.readonly_rootfs};
  spec.linux_ = FLUYT_TRY(linux_of(container, sandbox, host, *spec.process->capabilities));
  internal::MountPlan mounts = FLUYT_TRY(internal::plan_mounts(container, sandbox));
  spec.mounts = std::move(mounts.mounts);
  spec.linux_->rootfs_propagation = std::move(mounts.rootfs_propagation);
  if (const auto labels = FLUYT_TRY(selinux_of(container, sandbox, host))) {
    if (labels->process != SelinuxContext{}) spec.process->selinux_label = labels->process.text();
    spec.linux_->mount_label = labels->file.text();
  }
  spec.annotations = container.annotations;
  return spec;
}

Result<oci::Process> exec_process(const oci::Spec& spec, std::vector<std::string> args, bool tty) {
  if (!spec.process) {
    return Error(Code::kFailedPrecondition, "the container's spec has no process");
  }
  if (args.empty() || args.front().empty()) {
    return Error(Code::kInvalidArgument, "cmd: empty: expected the program and its arguments");
  }
  for (const std::string& arg : args) {
    if (!is_utf8(arg) || arg.find('\0') != std::string::npos) {
      return Error(Code::kInvalidArgument,
                   cat("cmd: ", quote(arg), ": expected UTF-8 text without NUL"));
    }
  }
  oci::Process process = *spec.process;
  process.terminal = tty;
  process.console_size.reset();
  process.args = std::move(args);
  const bool has_term =
      std::any_of(process.env.begin(), process.env.end(),
                  [](const std::string& one) { return one.starts_with("TERM="); });
  if (tty && !has_term) {
    process.env.emplace_back("TERM=xterm");
  }
  return process;
}

}  // namespace fluyt::spec
