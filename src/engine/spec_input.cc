#include "engine/spec_input.h"

#include <sys/sysmacros.h>

#include <set>

#include "base/strings.h"
#include "engine/cdi.h"
#include "engine/cgroup_parent.h"
#include "engine/image_volumes.h"
#include "engine/sandbox_files.h"
#include "engine/selinux.h"
#include "spec/capabilities.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr size_t kMaxSeccompProfile = 1UL << 20U;
constexpr size_t kMaxDevices = 4096;
constexpr int kMaxDeviceDepth = 4;

// containerd's words, which runtimes that know of pods read.
constexpr const char* kContainerType = "io.kubernetes.cri.container-type";
constexpr const char* kSandboxId = "io.kubernetes.cri.sandbox-id";
// Where a guest kernel is short of memory its programs end before it does.
constexpr int64_t kSandboxOomScore = -998;
constexpr uint32_t kSandboxUser = 65535;

/// Capabilities that we may hand on: the bounding set of this process.
std::vector<std::string> bounding_capabilities() {
  std::vector<std::string> names;
  const auto status = sys::read_file("/proc/self/status", 64UL << 10U);
  if (!status.ok()) return names;
  for (const auto line : split(*status, '\n')) {
    if (!line.starts_with("CapBnd:")) continue;
    const auto bits = parse_number<uint64_t>(trim(line.substr(7)), 16).value_or(0);
    const auto all = spec::all_capabilities();
    for (size_t i = 0; i < all.size(); ++i) {
      if ((bits >> i & 1U) != 0) names.emplace_back(all[i]);
    }
  }
  return names;
}

bool lists(const std::string& path, std::string_view word) {
  const auto text = sys::read_file(path, 4096);
  if (!text.ok()) return false;
  for (const auto found : split_words(trim(*text))) {
    if (found == word) return true;
  }
  return false;
}

oci::IdMapping mapping_of(const IdMap& map) { return {map.container_id, map.host_id, map.length}; }

spec::Mount mount_of(const Mount& from) {
  spec::Mount to;
  to.container_path = from.container_path;
  // Not looked at here: a file system that hangs must hold up the monitor's worker, which has a
  // deadline, and no thread of ours.
  to.host_path = from.host_path;
  to.readonly = from.readonly;
  to.recursive_readonly = from.recursive_readonly;
  switch (from.propagation) {
    case Propagation::kPrivate:
      to.propagation = spec::Propagation::kPrivate;
      break;
    case Propagation::kHostToContainer:
      to.propagation = spec::Propagation::kHostToContainer;
      break;
    case Propagation::kBidirectional:
      to.propagation = spec::Propagation::kBidirectional;
      break;
  }
  for (const auto& map : from.uid_maps) to.uid_mappings.push_back(mapping_of(map));
  for (const auto& map : from.gid_maps) to.gid_mappings.push_back(mapping_of(map));
  return to;
}

/// An image's tree. Its ids are mapped layer by layer, and nothing of the host is below it that
/// could be passed on.
spec::Mount image_mount_of(const Mount& from, std::string source) {
  spec::Mount to;
  to.container_path = from.container_path;
  to.host_path = std::move(source);
  to.readonly = true;
  to.image = true;
  return to;
}

/// A device node, or nothing where the file is none.
std::optional<spec::Device> device_node(const std::string& host_path,
                                        const std::string& container_path,
                                        const std::string& permissions) {
  struct stat info{};
  if (::stat(host_path.c_str(), &info) != 0) return std::nullopt;
  if (!S_ISCHR(info.st_mode) && !S_ISBLK(info.st_mode)) return std::nullopt;
  spec::Device device;
  device.container_path = container_path;
  device.type = S_ISCHR(info.st_mode) ? 'c' : 'b';
  device.major = static_cast<int64_t>(major(info.st_rdev));
  device.minor = static_cast<int64_t>(minor(info.st_rdev));
  device.file_mode = info.st_mode & 0777U;
  device.uid = info.st_uid;
  device.gid = info.st_gid;
  device.permissions = permissions.empty() ? "rwm" : permissions;
  return device;
}

/// The device nodes in a directory and below it, no link followed.
void devices_below(const std::string& host_dir, const std::string& container_dir,
                   const std::string& permissions, const std::set<std::string>& skip, int depth,
                   std::vector<spec::Device>& devices) {
  const auto names = sys::list_dir(host_dir);
  if (!names.ok() || depth > kMaxDeviceDepth) return;
  for (const auto& name : *names) {
    const std::string host_path = host_dir + "/" + name;
    if (skip.contains(host_path) || devices.size() >= kMaxDevices) continue;
    struct stat info{};
    if (::lstat(host_path.c_str(), &info) != 0) continue;
    const std::string container_path = container_dir + "/" + name;
    if (S_ISDIR(info.st_mode)) {
      devices_below(host_path, container_path, permissions, skip, depth + 1, devices);
    } else if (!S_ISLNK(info.st_mode)) {
      if (auto device = device_node(host_path, container_path, permissions)) {
        devices.push_back(std::move(*device));
      }
    }
  }
}

/// What a privileged container sees: all of /dev but what each container has of its own.
std::vector<spec::Device> all_host_devices() {
  const std::set<std::string> skip = {"/dev/pts",     "/dev/shm",  "/dev/fd",    "/dev/mqueue",
                                      "/dev/console", "/dev/.lxc", "/dev/.udev", "/dev/ptmx"};
  std::vector<spec::Device> devices;
  devices_below("/dev", "/dev", "rwm", skip, 0, devices);
  return devices;
}

Result<std::vector<spec::Device>> devices_of(const ContainerConfig& config) {
  std::vector<spec::Device> devices;
  for (size_t i = 0; i < config.devices.size(); ++i) {
    const Device& from = config.devices[i];
    const size_t before = devices.size();
    if (auto device = device_node(from.host_path, from.container_path, from.permissions)) {
      devices.push_back(std::move(*device));
    } else {
      devices_below(from.host_path, from.container_path, from.permissions, {}, 0, devices);
    }
    if (devices.size() == before) {
      return Error(Code::kInvalidArgument,
                   cat("devices[", i, "].host_path: ", quote(from.host_path),
                       ": expected a device, or a directory with some"));
    }
  }
  return devices;
}

Result<spec::NamespaceSource> pid_namespace(Engine::Core& core, const Container& container,
                                            const Sandbox& sandbox) {
  using Kind = spec::NamespaceSource::Kind;
  const NamespaceOptions& asked = container.config.security.namespaces;
  // POD means what the sandbox was made with.
  const NamespaceMode mode =
      asked.pid == NamespaceMode::kPod ? sandbox.config.namespaces.pid : asked.pid;
  switch (mode) {
    case NamespaceMode::kPod:
      return spec::NamespaceSource::join(sandbox.namespaces.pid);
    case NamespaceMode::kNode:
      return spec::NamespaceSource::host();
    case NamespaceMode::kContainer:
      return spec::NamespaceSource{Kind::kNew, {}};
    case NamespaceMode::kTarget:
      break;
  }
  const auto target = FLUYT_TRY_CONTEXT(core.get_container(asked.target_id),
                                        "linux.security_context.namespace_options.target_id");
  const ContainerPtr joined = target->value();
  if (joined->sandbox_id != sandbox.id || joined->state != ContainerState::kRunning) {
    return Error(Code::kFailedPrecondition,
                 cat("linux.security_context.namespace_options.target_id: ", joined->id,
                     ": expected a running container of sandbox ", sandbox.id));
  }
  return spec::NamespaceSource::join(cat("/proc/", joined->pid, "/ns/pid"));
}

Result<spec::Namespaces> namespaces_of(Engine::Core& core, const Container& container,
                                       const Sandbox& sandbox) {
  const auto pod = [](const std::string& path) {
    return path.empty() ? spec::NamespaceSource::host() : spec::NamespaceSource::join(path);
  };
  spec::Namespaces namespaces;
  namespaces.user = pod(sandbox.namespaces.user);
  if (const auto& users = sandbox.config.namespaces.user_ids) {
    namespaces.uid_mappings = {mapping_of(users->uids)};
    namespaces.gid_mappings = {mapping_of(users->gids)};
  }
  namespaces.network = pod(sandbox.namespaces.network);
  namespaces.ipc = pod(sandbox.namespaces.ipc);
  namespaces.uts = pod(sandbox.namespaces.uts);
  namespaces.pid = FLUYT_TRY(pid_namespace(core, container, sandbox));
  return namespaces;
}

Result<std::optional<spec::SeccompProfile>> seccomp_of(const std::optional<SecurityProfile>& from) {
  using Profile = std::optional<spec::SeccompProfile>;
  if (!from) return Profile();
  spec::SeccompProfile to;
  switch (from->type) {
    case SecurityProfile::Type::kRuntimeDefault:
      to.type = spec::ProfileType::kRuntimeDefault;
      break;
    case SecurityProfile::Type::kUnconfined:
      to.type = spec::ProfileType::kUnconfined;
      break;
    case SecurityProfile::Type::kLocalhost: {
      to.type = spec::ProfileType::kLocalhost;
      constexpr std::string_view kField = "linux.security_context.seccomp.localhost_ref";
      if (!from->localhost_ref.starts_with('/')) {
        return Error(Code::kInvalidArgument,
                     cat(kField, ": ", quote(from->localhost_ref), ": expected an absolute path"));
      }
      const std::string text =
          FLUYT_TRY_CONTEXT(sys::read_file(from->localhost_ref, kMaxSeccompProfile), kField);
      to.localhost = FLUYT_TRY_CONTEXT(oci::parse_seccomp(text), kField);
      break;
    }
  }
  return Profile(std::move(to));
}

std::optional<spec::ApparmorProfile> apparmor_of(const std::optional<SecurityProfile>& from) {
  if (!from) return std::nullopt;
  spec::ApparmorProfile to;
  switch (from->type) {
    case SecurityProfile::Type::kRuntimeDefault:
      to.type = spec::ProfileType::kRuntimeDefault;
      break;
    case SecurityProfile::Type::kUnconfined:
      to.type = spec::ProfileType::kUnconfined;
      break;
    case SecurityProfile::Type::kLocalhost:
      to.type = spec::ProfileType::kLocalhost;
      to.localhost = from->localhost_ref;
      break;
  }
  return to;
}

Result<spec::Security> security_of(const SecurityContext& from) {
  spec::Security to;
  to.privileged = from.privileged;
  to.readonly_rootfs = from.readonly_rootfs;
  to.no_new_privs = from.no_new_privs;
  to.add_capabilities = from.add_capabilities;
  to.drop_capabilities = from.drop_capabilities;
  to.add_ambient_capabilities = from.add_ambient_capabilities;
  to.masked_paths = from.masked_paths;
  to.readonly_paths = from.readonly_paths;
  to.seccomp = FLUYT_TRY(seccomp_of(from.seccomp));
  to.apparmor = apparmor_of(from.apparmor);
  if (from.selinux)
    to.selinux = {from.selinux->user, from.selinux->role, from.selinux->type, from.selinux->level};
  return to;
}

/// Of a sandbox that runs already: it may have left the configuration since.
Result<const RuntimeHandler*> handler_of(const Options& options, const Sandbox& sandbox) {
  if (sandbox.handler.empty()) return static_cast<const RuntimeHandler*>(nullptr);
  auto handler = choose_handler(options, sandbox.handler);
  if (handler.ok()) return handler;
  return Error(Code::kFailedPrecondition,
               cat("sandbox ", sandbox.id, ": its runtime handler ", quote(sandbox.handler),
                   " is not configured any more"));
}

/// The linked runtime interprets none; a program is told what its handler lists.
std::map<std::string, std::string> annotations_of(const RuntimeHandler* handler,
                                                  const ContainerConfig& config,
                                                  const Sandbox& sandbox) {
  if (handler == nullptr) return config.annotations;
  std::map<std::string, std::string> passed;
  for (const auto* from : {&config.annotations, &sandbox.config.annotations}) {
    for (const auto& [name, value] : *from) {
      if (passes_annotation(*handler, name)) passed.emplace(name, value);
    }
  }
  return passed;
}

/// What it gives to its own container too: the pod's cgroup alone.
spec::Sandbox cgroup_of(const Engine::Core& core, const Sandbox& sandbox) {
  spec::Sandbox to;
  const std::string parent = cgroup_parent_of(*core.now(), sandbox);
  if (sandbox.cgroup_driver == CgroupDriver::kSystemd) {
    to.cgroup_slice = slice_name(parent);
  } else {
    to.cgroup_parent = parent;
  }
  return to;
}

spec::Sandbox sandbox_of(const Engine::Core& core, const Sandbox& sandbox,
                         const std::string& hostname) {
  const std::string dir = core.sandbox_dir(sandbox.id);
  spec::Sandbox to = cgroup_of(core, sandbox);
  to.hostname = hostname;
  to.resolv_conf = dir + "/resolv.conf";
  to.hosts = dir + "/hosts";
  to.hostname_file = dir + "/hostname";
  to.shm = sandbox.config.namespaces.ipc == NamespaceMode::kNode ? "/dev/shm" : dir + "/shm";
  to.privileged = sandbox.config.privileged;
  to.selinux = labels_of(sandbox);
  to.selinux_asked = sandbox.config.selinux && sandbox.config.selinux != SelinuxOptions{};
  return to;
}

}  // namespace

namespace {

std::string loaded_apparmor_default() {
  constexpr size_t kMaxProfilesBytes = 16UL << 20U;
  const auto loaded = sys::read_file("/sys/kernel/security/apparmor/profiles", kMaxProfilesBytes);
  return loaded.ok() ? find_apparmor_default(*loaded) : std::string();
}

// Here, where it is known who asked for it: at its exec it would be a program that does not start.
Result<> check_labels(const SelinuxPlaces& places, oci::Spec& spec) {
  for (std::string* label : {&spec.process->selinux_label, &spec.linux_->mount_label}) {
    if (label->empty()) continue;
    *label = FLUYT_TRY_CONTEXT(canonical_label(places, *label),
                               "linux.security_context.selinux_options");
  }
  return {};
}

enum class WantsPolicy { kNo, kYes };

// An administrator loads profiles and policies and takes them away while we run.
Result<spec::Host> host_now(const Engine::Core& core, WantsPolicy wants) {
  spec::Host host = *core.spec_host;
  if (host.apparmor) host.apparmor_default = loaded_apparmor_default();
  if (wants == WantsPolicy::kNo) return host;
  SelinuxHost selinux = FLUYT_TRY_CONTEXT(selinux_of(*core.now()), "SELinux");
  if (selinux.enabled) host.selinux = std::move(selinux.containers);
  if (!selinux.lacks.empty()) host.no_selinux = cat("this host lacks ", selinux.lacks);
  return host;
}

}  // namespace

std::string find_apparmor_default(std::string_view loaded) {
  constexpr std::string_view kDefault = "fluyt-default";
  for (const std::string_view line : split(loaded, '\n')) {
    if (line.starts_with(cat(kDefault, " ("))) return std::string(kDefault);
  }
  return {};
}

spec::Host probe_spec_host(const Host& host) {
  spec::Host to;
  to.cgroup_v2 = sys::exists("/sys/fs/cgroup/cgroup.controllers");
  to.hugetlb = lists("/sys/fs/cgroup/cgroup.controllers", "hugetlb") ||
               lists("/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb") ||
               sys::exists("/sys/fs/cgroup/hugetlb");
  to.swap_limits = to.cgroup_v2 || sys::exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
  const auto apparmor = sys::read_file("/sys/module/apparmor/parameters/enabled", 16);
  to.apparmor = apparmor.ok() && apparmor->starts_with('Y');
  if (to.apparmor) to.apparmor_default = loaded_apparmor_default();
  to.capabilities = bounding_capabilities();
  to.oom_score_floor = static_cast<int32_t>(host.oom_score_floor);
  return to;
}

spec::Resources spec_resources(const Resources& from) {
  return {
      .cpu_period = from.cpu_period,
      .cpu_quota = from.cpu_quota,
      .cpu_shares = from.cpu_shares,
      .memory_limit_bytes = from.memory_limit_bytes,
      .memory_swap_limit_bytes = from.memory_swap_limit_bytes,
      .oom_score_adj = from.oom_score_adj,
      .pids_limit = from.pids_limit,
      .cpuset_cpus = from.cpuset_cpus,
      .cpuset_mems = from.cpuset_mems,
      .hugepage_limits = from.hugepage_limits,
      .unified = from.unified,
  };
}

Result<spec::UserFiles> read_user_files(Engine::Core& core, const std::string& image_id) {
  spec::UserFiles files;
  files.passwd = FLUYT_TRY(core.parts.images->read_image_file(image_id, "/etc/passwd",
                                                              spec::kMaxUserFileBytes))
                     .value_or("");
  files.group =
      FLUYT_TRY(core.parts.images->read_image_file(image_id, "/etc/group", spec::kMaxUserFileBytes))
          .value_or("");
  return files;
}

Result<oci::Spec> make_spec(Engine::Core& core, const Container& container, const Sandbox& sandbox,
                            const image::Image& image) {
  const ContainerConfig& config = container.config;
  spec::Container to;
  to.id = container.id;
  to.command = config.command;
  to.args = config.args;
  to.working_dir = config.working_dir;
  for (const auto& env : config.envs) to.envs.emplace_back(env.name, env.value);
  to.tty = config.tty;
  const std::string bundle = core.bundle_dir(sandbox.id, container.id);
  for (size_t i = 0; i < config.mounts.size(); ++i) {
    const Mount& mount = config.mounts[i];
    to.mounts.push_back(mount.image.empty()
                            ? mount_of(mount)
                            : image_mount_of(mount, image_volume_source(bundle, i)));
  }
  to.devices = FLUYT_TRY(devices_of(config));
  const auto options = core.now();
  const RuntimeHandler* handler = FLUYT_TRY(handler_of(*options, sandbox));
  const bool host_devices = handler == nullptr || !handler->privileged_without_host_devices;
  if (config.security.privileged && host_devices) to.host_devices = all_host_devices();
  to.namespaces = FLUYT_TRY(namespaces_of(core, container, sandbox));
  to.user.run_as_user = config.security.run_as_user;
  to.user.run_as_group = config.security.run_as_group;
  to.user.run_as_username = config.security.run_as_username;
  to.user.supplemental_groups = config.security.supplemental_groups;
  to.user.groups_policy = config.security.groups_policy == GroupsPolicy::kStrict
                              ? spec::GroupsPolicy::kStrict
                              : spec::GroupsPolicy::kMerge;
  to.user_files = FLUYT_TRY(read_user_files(core, image.id));
  to.security = FLUYT_TRY(security_of(config.security));
  // procMount: Unmasked, which Kubernetes has for such pods alone. Elsewhere nothing said is our
  // defaults, which are the safe reading.
  if (sandbox.config.namespaces.user_ids) {
    if (!to.security.masked_paths) to.security.masked_paths.emplace();
    if (!to.security.readonly_paths) to.security.readonly_paths.emplace();
  }
  to.resources = spec_resources(config.resources);
  to.annotations = annotations_of(handler, config, sandbox);
  if (sandbox.own_container) {
    to.annotations[kContainerType] = "container";
    to.annotations[kSandboxId] = sandbox.id;
  }
  const std::string hostname =
      sandbox.config.hostname.empty() ? FLUYT_TRY(host_name()) : sandbox.config.hostname;
  const spec::Sandbox in = sandbox_of(core, sandbox, hostname);
  // The pod's are on record, whatever the policy says by now.
  const bool of_policy = !in.selinux && to.security.selinux != spec::SelinuxOptions{};
  const spec::Host host =
      FLUYT_TRY(host_now(core, of_policy ? WantsPolicy::kYes : WantsPolicy::kNo));
  oci::Spec spec = FLUYT_TRY(spec::container_spec(to, in, image.config, host));
  FLUYT_TRY(check_labels(options->selinux_places, spec));
  FLUYT_TRY(add_cdi_devices(options->cdi_dirs, config.cdi_devices, spec));
  return spec;
}

Result<std::string> sandbox_spec(Engine::Core& core, const Sandbox& sandbox) {
  const auto options = core.now();
  spec::Container to;
  to.id = sandbox.id;
  to.command = {std::string(kSandboxProgram)};
  to.mounts = {{.container_path = std::string(kSandboxProgram),
                .host_path = options->pod_init_program,
                .readonly = true}};
  // A container that asks for nothing has the pod's.
  to.namespaces = FLUYT_TRY(namespaces_of(core, Container(), sandbox));
  // Nobody's, where the pod knows that id.
  const auto& users = sandbox.config.namespaces.user_ids;
  const auto knows = [](const IdMap& map) { return kSandboxUser - map.container_id < map.length; };
  const bool is_known = !users || (knows(users->uids) && knows(users->gids));
  to.user.run_as_user = to.user.run_as_group = is_known ? kSandboxUser : 0;
  to.security.readonly_rootfs = true;
  to.security.no_new_privs = true;
  to.security.drop_capabilities = {"ALL"};
  to.resources.oom_score_adj = kSandboxOomScore;
  to.annotations = annotations_of(FLUYT_TRY(handler_of(*options, sandbox)), {}, sandbox);
  to.annotations[kContainerType] = "sandbox";
  to.annotations[kSandboxId] = sandbox.id;
  const spec::Host host = FLUYT_TRY(host_now(core, WantsPolicy::kNo));
  const oci::Spec spec =
      FLUYT_TRY(spec::container_spec(to, cgroup_of(core, sandbox), oci::ImageConfig(), host));
  return oci::to_json(spec);
}

}  // namespace fluyt::engine
