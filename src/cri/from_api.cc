#include "cri/from_api.h"

#include <arpa/inet.h>

#include <array>

#include "base/strings.h"

namespace fluyt::cri {
namespace {

Error invalid(std::string_view field, std::string_view value, std::string_view expected) {
  return Error(Code::kInvalidArgument, cat(field, ": ", value, ": expected ", expected));
}

template <class Repeated>
std::vector<std::string> strings(const Repeated& values) {
  return {values.begin(), values.end()};
}

template <class Map>
std::map<std::string, std::string> string_map(const Map& values) {
  return {values.begin(), values.end()};
}

Result<> check_absolute(std::string_view field, const std::string& path) {
  if (!path.empty() && path.front() != '/') return invalid(field, quote(path), "an absolute path");
  return {};
}

/// Words that go into files, lists of arguments and logs as they are.
Result<> check_text(std::string_view field, const std::string& text) {
  constexpr size_t kMaxText = 4096;
  if (text.size() > kMaxText) return invalid(field, cat(text.size(), " bytes"), "at most 4096");
  if (has_control_characters(text))
    return invalid(field, quote(text), "text without control characters");
  return {};
}

/// A word of resolv.conf.
Result<> check_dns(const std::string& field,
                   const google::protobuf::RepeatedPtrField<std::string>& words) {
  for (int i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.empty() || word.find_first_of(" \t") != std::string::npos ||
        has_control_characters(word)) {
      return invalid(cat(field, "[", i, "]"), quote(word), "a word");
    }
  }
  return {};
}

bool is_address(const std::string& text) {
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  return inet_pton(AF_INET, text.c_str(), bytes.data()) == 1 ||
         inet_pton(AF_INET6, text.c_str(), bytes.data()) == 1;
}

Result<engine::GroupsPolicy> groups_policy(std::string_view field,
                                           api::SupplementalGroupsPolicy policy) {
  switch (policy) {
    case api::Merge:
      return engine::GroupsPolicy::kMerge;
    case api::Strict:
      return engine::GroupsPolicy::kStrict;
    default:
      return invalid(field, cat(static_cast<int>(policy)), "Merge or Strict");
  }
}

Result<engine::NamespaceMode> namespace_mode(std::string_view field, api::NamespaceMode mode) {
  switch (mode) {
    case api::POD:
      return engine::NamespaceMode::kPod;
    case api::CONTAINER:
      return engine::NamespaceMode::kContainer;
    case api::NODE:
      return engine::NamespaceMode::kNode;
    case api::TARGET:
      return engine::NamespaceMode::kTarget;
    default:
      return invalid(field, cat(static_cast<int>(mode)), "POD, CONTAINER, NODE or TARGET");
  }
}

/// A range of ids that begins with the container's 0 and ends within 32 bits on both sides.
Result<engine::IdMap> user_ids(const std::string& field,
                               const google::protobuf::RepeatedPtrField<api::IDMapping>& from) {
  if (from.size() != 1) return invalid(field, cat(from.size()), "exactly one mapping");
  const api::IDMapping& map = from[0];
  if (map.container_id() != 0) {
    return invalid(field + "[0].container_id", cat(map.container_id()),
                   "0: root must be mapped, and with it all that follow");
  }
  if (map.length() == 0) return invalid(field + "[0].length", "0", "1 or more");
  if (map.length() > UINT32_MAX - map.host_id()) {
    return invalid(field + "[0].length", cat(map.length()),
                   cat("at most ", UINT32_MAX - map.host_id(), ", as host_id is ", map.host_id()));
  }
  return engine::IdMap{map.container_id(), map.host_id(), map.length()};
}

Result<> user_namespace(const std::string& field, const api::UserNamespace& from,
                        engine::NamespaceOptions& to) {
  if (from.mode() != api::POD && from.mode() != api::NODE) {
    const std::string name = api::NamespaceMode_Name(from.mode());
    return invalid(field + ".mode", name.empty() ? cat(static_cast<int>(from.mode())) : name,
                   "POD or NODE");
  }
  if (from.mode() == api::NODE) {
    if (from.uids_size() > 0 || from.gids_size() > 0) {
      return invalid(field + ".uids", "[...]", "none with mode NODE");
    }
    to.user = engine::NamespaceMode::kNode;
    return {};
  }
  to.user_ids = engine::UserIds{FLUYT_TRY(user_ids(field + ".uids", from.uids())),
                                FLUYT_TRY(user_ids(field + ".gids", from.gids()))};
  return {};
}

Result<engine::NamespaceOptions> namespace_options(const std::string& field,
                                                   const api::NamespaceOption& option) {
  engine::NamespaceOptions options;
  options.network = FLUYT_TRY(namespace_mode(field + ".network", option.network()));
  options.pid = FLUYT_TRY(namespace_mode(field + ".pid", option.pid()));
  options.ipc = FLUYT_TRY(namespace_mode(field + ".ipc", option.ipc()));
  options.target_id = option.target_id();
  if (options.pid == engine::NamespaceMode::kTarget && options.target_id.empty()) {
    return invalid(field + ".target_id", "\"\"", "a container's id, as pid is TARGET");
  }
  if (option.has_userns_options()) {
    FLUYT_TRY(user_namespace(field + ".userns_options", option.userns_options(), options));
  }
  return options;
}

/// Begins a localhost profile's name in the deprecated text form.
constexpr std::string_view kLocalhost = "localhost/";

/// A reference may have the deprecated form's prefix: callers made for that form keep it, and
/// critest does.
Result<engine::SecurityProfile> profile(std::string_view field, const api::SecurityProfile& from) {
  using Type = engine::SecurityProfile::Type;
  engine::SecurityProfile to;
  switch (from.profile_type()) {
    case api::SecurityProfile_ProfileType_RuntimeDefault:
      to.type = Type::kRuntimeDefault;
      break;
    case api::SecurityProfile_ProfileType_Unconfined:
      to.type = Type::kUnconfined;
      break;
    case api::SecurityProfile_ProfileType_Localhost:
      to.type = Type::kLocalhost;
      break;
    default:
      return invalid(cat(field, ".profile_type"), cat(static_cast<int>(from.profile_type())),
                     "RuntimeDefault, Unconfined or Localhost");
  }
  to.localhost_ref = from.localhost_ref();
  if (to.localhost_ref.starts_with(kLocalhost)) to.localhost_ref.erase(0, kLocalhost.size());
  if (to.type == Type::kLocalhost && to.localhost_ref.empty()) {
    return invalid(cat(field, ".localhost_ref"), "\"\"", "a name, as profile_type is Localhost");
  }
  return to;
}

/// The deprecated text form: "", "unconfined", "runtime/default", "docker/default",
/// "localhost/REF".
Result<std::optional<engine::SecurityProfile>> profile_text(std::string_view field,
                                                            const std::string& text) {
  using Type = engine::SecurityProfile::Type;
  using Profile = std::optional<engine::SecurityProfile>;
  if (text.empty()) return Profile();
  if (text == "unconfined") return Profile({Type::kUnconfined, {}});
  if (text == "runtime/default" || text == "docker/default")
    return Profile({Type::kRuntimeDefault, {}});
  if (text.starts_with(kLocalhost))
    return Profile({Type::kLocalhost, text.substr(kLocalhost.size())});
  return invalid(field, quote(text), "unconfined, runtime/default or localhost/NAME");
}

Result<engine::PortMapping> port_mapping(const std::string& field, const api::PortMapping& from) {
  constexpr int32_t kMaxPort = 65535;
  engine::PortMapping to;
  switch (from.protocol()) {
    case api::TCP:
      to.protocol = "tcp";
      break;
    case api::UDP:
      to.protocol = "udp";
      break;
    case api::SCTP:
      to.protocol = "sctp";
      break;
    default:
      return invalid(field + ".protocol", cat(static_cast<int>(from.protocol())),
                     "TCP, UDP or SCTP");
  }
  if (from.container_port() < 0 || from.container_port() > kMaxPort) {
    return invalid(field + ".container_port", cat(from.container_port()), "0 to 65535");
  }
  if (from.host_port() < 0 || from.host_port() > kMaxPort) {
    return invalid(field + ".host_port", cat(from.host_port()), "0 to 65535");
  }
  to.container_port = static_cast<uint16_t>(from.container_port());
  to.host_port = static_cast<uint16_t>(from.host_port());
  if (to.host_port != 0 && to.container_port == 0) {
    return invalid(field + ".container_port", "0", "1 to 65535, as host_port is set");
  }
  to.host_ip = from.host_ip();
  if (!to.host_ip.empty() && !is_address(to.host_ip)) {
    return invalid(field + ".host_ip", quote(to.host_ip), "an IPv4 or IPv6 address");
  }
  return to;
}

std::vector<engine::IdMap> id_maps(const google::protobuf::RepeatedPtrField<api::IDMapping>& from) {
  std::vector<engine::IdMap> to;
  for (const auto& map : from) to.push_back({map.container_id(), map.host_id(), map.length()});
  return to;
}

/// What is of an image volume alone.
Result<> image_volume(const std::string& field, const api::Mount& from, engine::Mount& to) {
  to.image_sub_path = from.image_sub_path();
  if (!from.has_image()) {
    if (to.image_sub_path.empty()) return {};
    return invalid(field + ".image_sub_path", quote(to.image_sub_path), "none without an image");
  }
  to.image = from.image().image();
  to.user_specified_image = from.image().user_specified_image();
  FLUYT_TRY(check_image_spec(field + ".image", from.image()));
  if (!from.readonly()) return invalid(field + ".readonly", "false", "true: it is an image volume");
  for (const std::string_view word : split(to.image_sub_path, '/')) {
    if (word == ".." || has_control_characters(word)) {
      return invalid(field + ".image_sub_path", quote(to.image_sub_path),
                     "a path inside the image, without \"..\"");
    }
  }
  return {};
}

Result<engine::Mount> mount(const std::string& field, const api::Mount& from) {
  engine::Mount to;
  to.container_path = from.container_path();
  to.host_path = from.host_path();
  to.readonly = from.readonly();
  to.recursive_readonly = from.recursive_read_only();
  to.selinux_relabel = from.selinux_relabel();
  to.uid_maps = id_maps(from.uidmappings());
  to.gid_maps = id_maps(from.gidmappings());
  FLUYT_TRY(image_volume(field, from, to));
  switch (from.propagation()) {
    case api::PROPAGATION_PRIVATE:
      to.propagation = engine::Propagation::kPrivate;
      break;
    case api::PROPAGATION_HOST_TO_CONTAINER:
      to.propagation = engine::Propagation::kHostToContainer;
      break;
    case api::PROPAGATION_BIDIRECTIONAL:
      to.propagation = engine::Propagation::kBidirectional;
      break;
    default:
      return invalid(field + ".propagation", cat(static_cast<int>(from.propagation())),
                     "PROPAGATION_PRIVATE, _HOST_TO_CONTAINER or _BIDIRECTIONAL");
  }
  if (to.container_path.empty()) return invalid(field + ".container_path", "\"\"", "a path");
  if (to.image.empty() && to.host_path.empty()) {
    return invalid(field + ".host_path", "\"\"", "a path, or an image in its place");
  }
  if (!to.image.empty() && !to.host_path.empty()) {
    return invalid(field + ".host_path", quote(to.host_path), "none, as image is set");
  }
  FLUYT_TRY(check_absolute(field + ".host_path", to.host_path));
  if (to.recursive_readonly && !to.readonly) {
    return invalid(field + ".recursive_read_only", "true", "readonly to be set as well");
  }
  if (to.recursive_readonly && to.propagation != engine::Propagation::kPrivate) {
    return invalid(field + ".recursive_read_only", "true", "PROPAGATION_PRIVATE");
  }
  return to;
}

Result<engine::Device> device(const std::string& field, const api::Device& from) {
  FLUYT_TRY(check_absolute(field + ".host_path", from.host_path()));
  if (from.host_path().empty()) return invalid(field + ".host_path", "\"\"", "a path");
  if (from.permissions().find_first_not_of("rwm") != std::string::npos) {
    return invalid(field + ".permissions", quote(from.permissions()), "letters of rwm");
  }
  return engine::Device{from.container_path().empty() ? from.host_path() : from.container_path(),
                        from.host_path(), from.permissions()};
}

/// SIGRTMINPLUS3 as the field writes it, SIGRTMIN+3.
Result<std::string> stop_signal(api::Signal signal) {
  if (signal == api::RUNTIME_DEFAULT) return std::string();
  std::string name = api::Signal_Name(signal);
  if (name.empty()) return invalid("stop_signal", cat(static_cast<int>(signal)), "0 to 65");
  for (const auto& [word, sign] :
       {std::pair<std::string_view, char>{"PLUS", '+'}, {"MINUS", '-'}}) {
    const size_t at = name.find(word);
    if (at != std::string::npos) name.replace(at, word.size(), 1, sign);
  }
  return name;
}

/// Below the sandbox's log_directory.
Result<> check_log_path(const std::string& path) {
  if (path.empty()) return {};
  FLUYT_TRY(check_text("log_path", path));
  for (const std::string_view word : split(path, '/')) {
    if (word.empty() || word == "." || word == "..") {
      return invalid("log_path", quote(path), "a relative path without empty, . and .. parts");
    }
  }
  return {};
}

template <class Context>
Result<> identity(const std::string& field, const Context& from, std::optional<int64_t>& user,
                  std::optional<int64_t>& group) {
  constexpr int64_t kMaxId = 4294967294;
  if (from.has_run_as_user()) user = from.run_as_user().value();
  if (from.has_run_as_group()) group = from.run_as_group().value();
  if (user && (*user < 0 || *user > kMaxId)) {
    return invalid(field + ".run_as_user", cat(*user), "0 to 4294967294");
  }
  if (group && (*group < 0 || *group > kMaxId)) {
    return invalid(field + ".run_as_group", cat(*group), "0 to 4294967294");
  }
  for (const int64_t extra : from.supplemental_groups()) {
    if (extra < 0 || extra > kMaxId) {
      return invalid(field + ".supplemental_groups", cat(extra), "0 to 4294967294");
    }
  }
  return {};
}

engine::SelinuxOptions selinux_options(const api::SELinuxOption& from) {
  return {from.user(), from.role(), from.type(), from.level()};
}

Result<engine::SecurityContext> security_context(const api::LinuxContainerSecurityContext& from) {
  const std::string field = "linux.security_context";
  engine::SecurityContext to;
  to.add_capabilities = strings(from.capabilities().add_capabilities());
  to.drop_capabilities = strings(from.capabilities().drop_capabilities());
  to.add_ambient_capabilities = strings(from.capabilities().add_ambient_capabilities());
  to.privileged = from.privileged();
  to.readonly_rootfs = from.readonly_rootfs();
  to.no_new_privs = from.no_new_privs();
  to.namespaces =
      FLUYT_TRY(namespace_options(field + ".namespace_options", from.namespace_options()));
  FLUYT_TRY(identity(field, from, to.run_as_user, to.run_as_group));
  to.run_as_username = from.run_as_username();
  if (to.run_as_group && !to.run_as_user && to.run_as_username.empty()) {
    return invalid(field + ".run_as_group", cat(*to.run_as_group),
                   "run_as_user or run_as_username to be set as well");
  }
  to.supplemental_groups = {from.supplemental_groups().begin(), from.supplemental_groups().end()};
  to.groups_policy = FLUYT_TRY(
      groups_policy(field + ".supplemental_groups_policy", from.supplemental_groups_policy()));
  if (from.has_selinux_options()) to.selinux = selinux_options(from.selinux_options());
  // On the wire an empty list and none at all are one: the defaults, which are the safe reading.
  if (from.masked_paths_size() > 0) to.masked_paths = strings(from.masked_paths());
  if (from.readonly_paths_size() > 0) to.readonly_paths = strings(from.readonly_paths());
  to.seccomp =
      from.has_seccomp()
          ? std::optional(FLUYT_TRY(profile(field + ".seccomp", from.seccomp())))
          : FLUYT_TRY(profile_text(field + ".seccomp_profile_path", from.seccomp_profile_path()));
  to.apparmor = from.has_apparmor()
                    ? std::optional(FLUYT_TRY(profile(field + ".apparmor", from.apparmor())))
                    : FLUYT_TRY(profile_text(field + ".apparmor_profile", from.apparmor_profile()));
  return to;
}

Result<engine::SandboxName> sandbox_name(const api::PodSandboxMetadata& metadata) {
  if (metadata.name().empty()) return invalid("metadata.name", "\"\"", "a name");
  if (metadata.namespace_().empty()) return invalid("metadata.namespace", "\"\"", "a name");
  if (metadata.uid().empty()) return invalid("metadata.uid", "\"\"", "an id");
  FLUYT_TRY(check_text("metadata.name", metadata.name()));
  FLUYT_TRY(check_text("metadata.namespace", metadata.namespace_()));
  FLUYT_TRY(check_text("metadata.uid", metadata.uid()));
  return engine::SandboxName{metadata.name(), metadata.namespace_(), metadata.uid(),
                             metadata.attempt()};
}

Result<> sandbox_security(const api::LinuxSandboxSecurityContext& from, engine::SandboxConfig& to) {
  const std::string field = "linux.security_context";
  to.namespaces =
      FLUYT_TRY(namespace_options(field + ".namespace_options", from.namespace_options()));
  FLUYT_TRY(identity(field, from, to.run_as_user, to.run_as_group));
  if (to.run_as_group && !to.run_as_user) {
    return invalid(field + ".run_as_group", cat(*to.run_as_group), "run_as_user to be set as well");
  }
  FLUYT_TRY(
      groups_policy(field + ".supplemental_groups_policy", from.supplemental_groups_policy()));
  to.supplemental_groups = {from.supplemental_groups().begin(), from.supplemental_groups().end()};
  to.readonly_rootfs = from.readonly_rootfs();
  to.privileged = from.privileged();
  if (from.has_selinux_options()) to.selinux = selinux_options(from.selinux_options());
  to.seccomp =
      from.has_seccomp()
          ? std::optional(FLUYT_TRY(profile(field + ".seccomp", from.seccomp())))
          : FLUYT_TRY(profile_text(field + ".seccomp_profile_path", from.seccomp_profile_path()));
  return {};
}

}  // namespace

Result<engine::Resources> resources(const api::LinuxContainerResources& from) {
  engine::Resources to;
  to.cpu_period = from.cpu_period();
  to.cpu_quota = from.cpu_quota();
  to.cpu_shares = from.cpu_shares();
  to.memory_limit_bytes = from.memory_limit_in_bytes();
  to.memory_swap_limit_bytes = from.memory_swap_limit_in_bytes();
  to.oom_score_adj = from.oom_score_adj();
  to.cpuset_cpus = from.cpuset_cpus();
  to.cpuset_mems = from.cpuset_mems();
  to.unified = string_map(from.unified());
  for (const auto& limit : from.hugepage_limits()) {
    if (!to.hugepage_limits.emplace(limit.page_size(), limit.limit()).second) {
      return invalid("linux.resources.hugepage_limits", quote(limit.page_size()),
                     "each page_size once");
    }
  }
  if (to.oom_score_adj < -1000 || to.oom_score_adj > 1000) {
    return invalid("linux.resources.oom_score_adj", cat(to.oom_score_adj), "-1000 to 1000");
  }
  if (to.cpu_shares < 0)
    return invalid("linux.resources.cpu_shares", cat(to.cpu_shares), "0 or more");
  if (to.cpu_period < 0)
    return invalid("linux.resources.cpu_period", cat(to.cpu_period), "0 or more");
  return to;
}

Result<std::optional<engine::Resources>> pod_resources(const std::string& field, bool present,
                                                       const api::LinuxContainerResources& from) {
  if (!present) return std::optional<engine::Resources>();
  return std::optional(FLUYT_TRY_CONTEXT(resources(from), field));
}

Result<> check_image_spec(std::string_view field, const api::ImageSpec& image) {
  if (image.image().empty()) return invalid(cat(field, ".image"), "\"\"", "an image's name or id");
  return {};
}

Result<engine::SandboxConfig> sandbox_config(const api::PodSandboxConfig& from) {
  engine::SandboxConfig to;
  if (from.has_windows()) return invalid("windows", "{...}", "none: this is Linux");
  to.name = FLUYT_TRY(sandbox_name(from.metadata()));
  to.hostname = from.hostname();
  to.log_directory = from.log_directory();
  FLUYT_TRY(check_absolute("log_directory", to.log_directory));
  FLUYT_TRY(check_text("log_directory", to.log_directory));
  const auto& dns = from.dns_config();
  FLUYT_TRY(check_dns("dns_config.servers", dns.servers()));
  FLUYT_TRY(check_dns("dns_config.searches", dns.searches()));
  FLUYT_TRY(check_dns("dns_config.options", dns.options()));
  to.dns = {strings(dns.servers()), strings(dns.searches()), strings(dns.options())};
  for (int i = 0; i < from.port_mappings_size(); ++i) {
    to.port_mappings.push_back(
        FLUYT_TRY(port_mapping(cat("port_mappings[", i, "]"), from.port_mappings(i))));
  }
  to.labels = string_map(from.labels());
  to.annotations = string_map(from.annotations());
  to.cgroup_parent = from.linux().cgroup_parent();
  to.sysctls = string_map(from.linux().sysctls());
  to.overhead = FLUYT_TRY(
      pod_resources("linux.overhead", from.linux().has_overhead(), from.linux().overhead()));
  to.resources = FLUYT_TRY(
      pod_resources("linux.resources", from.linux().has_resources(), from.linux().resources()));
  FLUYT_TRY(sandbox_security(from.linux().security_context(), to));
  return to;
}

Result<engine::ContainerConfig> container_config(const api::ContainerConfig& from) {
  engine::ContainerConfig to;
  if (from.metadata().name().empty()) return invalid("metadata.name", "\"\"", "a name");
  FLUYT_TRY(check_text("metadata.name", from.metadata().name()));
  FLUYT_TRY(check_image_spec("image", from.image()));
  if (from.has_windows()) return invalid("windows", "{...}", "none: this is Linux");
  to.name = {from.metadata().name(), from.metadata().attempt()};
  to.image = from.image().image();
  to.user_specified_image = from.image().user_specified_image();
  to.command = strings(from.command());
  to.args = strings(from.args());
  to.working_dir = from.working_dir();
  for (int i = 0; i < from.envs_size(); ++i) {
    const auto& env = from.envs(i);
    if (env.key().empty() || env.key().find('=') != std::string::npos) {
      return invalid(cat("envs[", i, "].key"), quote(env.key()), "a name without '='");
    }
    to.envs.push_back({env.key(), env.value()});
  }
  for (int i = 0; i < from.mounts_size(); ++i) {
    to.mounts.push_back(FLUYT_TRY(mount(cat("mounts[", i, "]"), from.mounts(i))));
  }
  for (int i = 0; i < from.devices_size(); ++i) {
    to.devices.push_back(FLUYT_TRY(device(cat("devices[", i, "]"), from.devices(i))));
  }
  // Annotations that name devices, as other engines take them, change nothing: CRI has it so.
  for (const auto& device : from.cdi_devices()) to.cdi_devices.push_back(device.name());
  to.labels = string_map(from.labels());
  to.annotations = string_map(from.annotations());
  to.log_path = from.log_path();
  FLUYT_TRY(check_log_path(to.log_path));
  to.open_stdin = from.stdin();
  to.stdin_once = from.stdin_once();
  to.tty = from.tty();
  to.resources = FLUYT_TRY(resources(from.linux().resources()));
  to.security = FLUYT_TRY(security_context(from.linux().security_context()));
  to.stop_signal = FLUYT_TRY(stop_signal(from.stop_signal()));
  return to;
}

engine::SandboxFilter sandbox_filter(const api::PodSandboxFilter& from) {
  engine::SandboxFilter to;
  to.id = from.id();
  if (from.has_state()) {
    to.state = from.state().state() == api::SANDBOX_READY ? engine::SandboxState::kReady
                                                          : engine::SandboxState::kNotReady;
  }
  to.labels = string_map(from.label_selector());
  return to;
}

engine::SandboxFilter stats_filter(const api::PodSandboxStatsFilter& from) {
  engine::SandboxFilter to;
  to.id = from.id();
  to.labels = string_map(from.label_selector());
  return to;
}

engine::ContainerFilter stats_filter(const api::ContainerStatsFilter& from) {
  engine::ContainerFilter to;
  to.id = from.id();
  to.sandbox_id = from.pod_sandbox_id();
  to.labels = string_map(from.label_selector());
  return to;
}

std::optional<engine::ContainerFilter> container_filter(const api::ContainerFilter& from) {
  engine::ContainerFilter to;
  to.id = from.id();
  to.sandbox_id = from.pod_sandbox_id();
  to.labels = string_map(from.label_selector());
  if (!from.has_state()) return to;
  switch (from.state().state()) {
    case api::CONTAINER_CREATED:
      to.state = engine::ContainerState::kCreated;
      return to;
    case api::CONTAINER_RUNNING:
      to.state = engine::ContainerState::kRunning;
      return to;
    case api::CONTAINER_EXITED:
      to.state = engine::ContainerState::kExited;
      return to;
    default:
      return std::nullopt;
  }
}

}  // namespace fluyt::cri
