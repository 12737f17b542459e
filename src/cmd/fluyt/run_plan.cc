#include "cmd/fluyt/run_plan.h"

#include <array>
#include <cstdlib>

#include "base/strings.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/text/run_values.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

// What a container must not see of /proc and /sys: the list that the kubelet sends, too. CRI takes
// an empty list for "hide nothing", so that it has to be said.
constexpr std::array kMasked = {
    "/proc/asound",      "/proc/acpi",          "/proc/interrupts", "/proc/kcore",
    "/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap",
};
constexpr std::array kReadonly = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

const char* from_environment(const char* name) { return std::getenv(name); }

Error bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

// A host's name has no '_', which a container's may have.
std::string hostname_of(const RunOptions& options) {
  if (!options.hostname.empty()) return options.hostname;
  std::string name = options.name.substr(0, 63);
  for (char& c : name) {
    if (c == '_') c = '-';
  }
  while (!name.empty() && (name.back() == '-' || name.back() == '.')) name.pop_back();
  return name;
}

Result<cri::NamespaceMode> network_of(const RunOptions& options) {
  if (options.network == "pod") return cri::POD;
  if (options.network != "host") {
    return bad(cat("--network: ", quote(options.network, 64), " is not pod or host"));
  }
  if (!options.ports.empty()) {
    return bad("--publish: there is nothing to publish with --network host");
  }
  if (!options.hostname.empty()) {
    return bad("--hostname: a container with --network host has the host's name");
  }
  return cri::NODE;
}

Result<> fill_labels(const RunOptions& options, const std::string& mark, RunPlan& plan) {
  for (const std::string& text : options.labels) {
    auto label = FLUYT_TRY_CONTEXT(parse_label(text), "--label");
    if (label.first == kRunLabel) return bad(cat("--label: ", kRunLabel, " is fluyt's own"));
    (*plan.sandbox.mutable_labels())[label.first] = label.second;
    (*plan.container.mutable_labels())[label.first] = label.second;
  }
  (*plan.sandbox.mutable_labels())[kRunLabel] = mark;
  (*plan.container.mutable_labels())[kRunLabel] = mark;
  return {};
}

Result<> fill_ports(const RunOptions& options, cri::PodSandboxConfig& sandbox) {
  std::vector<Port> seen;
  for (const std::string& text : options.ports) {
    const Port port = FLUYT_TRY_CONTEXT(parse_port(text), "--publish");
    for (const Port& other : seen) {
      const bool same_host =
          other.host_ip.empty() || port.host_ip.empty() || other.host_ip == port.host_ip;
      if (other.host_port == port.host_port && other.protocol == port.protocol && same_host)
        return bad(
            cat("--publish: ", quote(text, 64), ": host port ", port.host_port, " is given twice"));
    }
    seen.push_back(port);
    cri::PortMapping* mapping = sandbox.add_port_mappings();
    mapping->set_host_ip(port.host_ip);
    mapping->set_host_port(port.host_port);
    mapping->set_container_port(port.container_port);
    mapping->set_protocol(port.protocol == PortProtocol::kTcp   ? cri::TCP
                          : port.protocol == PortProtocol::kUdp ? cri::UDP
                                                                : cri::SCTP);
  }
  return {};
}

Result<> fill_sandbox(const RunOptions& options, const std::string& log_folder, RunPlan& plan) {
  cri::PodSandboxConfig& sandbox = plan.sandbox;
  sandbox.mutable_metadata()->set_name(options.name);
  // The same for the same name, so that fluytd itself refuses a name that is taken.
  sandbox.mutable_metadata()->set_uid(cat("fluyt-run-", options.name));
  sandbox.mutable_metadata()->set_namespace_("default");
  sandbox.set_log_directory(log_folder);
  // fluytd's to do: its port and addresses are free with the container's end, whoever is there
  // then.
  (*sandbox.mutable_annotations())["dev.fluyt.sandbox-lifetime"] =
      options.detached && options.remove ? "containers-and-gone" : "containers";
  const cri::NamespaceMode network = FLUYT_TRY(network_of(options));
  if (network == cri::POD) sandbox.set_hostname(hostname_of(options));
  cri::LinuxSandboxSecurityContext* security = sandbox.mutable_linux()->mutable_security_context();
  security->mutable_namespace_options()->set_network(network);
  security->mutable_namespace_options()->set_pid(cri::CONTAINER);
  security->set_privileged(options.privileged);
  security->mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
  return fill_ports(options, sandbox);
}

Result<> fill_user(const RunOptions& options, cri::LinuxContainerSecurityContext& security) {
  if (options.user.empty()) return {};
  const User user = FLUYT_TRY_CONTEXT(parse_user(options.user), "--user");
  if (user.uid) security.mutable_run_as_user()->set_value(*user.uid);
  if (user.gid) security.mutable_run_as_group()->set_value(*user.gid);
  security.set_run_as_username(user.name);
  return {};
}

Result<> fill_security(const RunOptions& options, const RunPlan& plan,
                       cri::LinuxContainerSecurityContext& security) {
  *security.mutable_namespace_options() =
      plan.sandbox.linux().security_context().namespace_options();
  security.set_privileged(options.privileged);
  security.set_readonly_rootfs(options.readonly);
  for (const std::string& text : options.cap_add) {
    security.mutable_capabilities()->add_add_capabilities(
        FLUYT_TRY_CONTEXT(parse_capability(text), "--cap-add"));
  }
  for (const std::string& text : options.cap_drop) {
    security.mutable_capabilities()->add_drop_capabilities(
        FLUYT_TRY_CONTEXT(parse_capability(text), "--cap-drop"));
  }
  if (options.privileged) {
    security.mutable_seccomp()->set_profile_type(cri::SecurityProfile::Unconfined);
  } else {
    security.mutable_seccomp()->set_profile_type(cri::SecurityProfile::RuntimeDefault);
    for (const char* path : kMasked) security.add_masked_paths(path);
    for (const char* path : kReadonly) security.add_readonly_paths(path);
  }
  return fill_user(options, security);
}

Result<> fill_resources(const RunOptions& options, cri::LinuxContainerResources& resources) {
  if (!options.memory.empty()) {
    const uint64_t bytes = FLUYT_TRY_CONTEXT(parse_size(options.memory), "--memory");
    // Less than this no process starts in.
    if (bytes < 512 * 1024 || bytes > INT64_MAX) {
      return bad(cat("--memory: ", quote(options.memory, 64), " is less than 512k or too much"));
    }
    resources.set_memory_limit_in_bytes(static_cast<int64_t>(bytes));
  }
  if (!options.cpus.empty()) {
    resources.set_cpu_quota(FLUYT_TRY_CONTEXT(parse_cpus(options.cpus), "--cpus"));
    resources.set_cpu_period(kCpuPeriodUs);
  }
  return {};
}

Result<> fill_mounts(const RunOptions& options, const std::string& cwd,
                     cri::ContainerConfig& container) {
  for (const std::string& text : options.volumes) {
    const Volume volume = FLUYT_TRY_CONTEXT(parse_volume(text, cwd), "--volume");
    cri::Mount* mount = container.add_mounts();
    mount->set_host_path(volume.host_path);
    mount->set_container_path(volume.container_path);
    mount->set_readonly(volume.readonly);
  }
  return {};
}

Result<> fill_container(const RunOptions& options, const std::string& cwd, RunPlan& plan) {
  cri::ContainerConfig& container = plan.container;
  container.mutable_metadata()->set_name(options.name);
  container.mutable_image()->set_image(options.image);
  container.mutable_image()->set_user_specified_image(options.image);
  if (!options.entrypoint.empty()) container.add_command(options.entrypoint);
  for (const std::string& argument : options.command) container.add_args(argument);
  container.set_working_dir(options.workdir);
  for (const std::string& text : options.envs) {
    const auto env = FLUYT_TRY_CONTEXT(parse_env(text, from_environment), "--env");
    if (!env) continue;
    cri::KeyValue* message = container.add_envs();
    message->set_key(env->first);
    message->set_value(env->second);
  }
  container.set_log_path(cat(options.name, ".log"));
  container.set_stdin(options.interactive);
  // Detached, somebody attaches later, and again: its end of file must not be the first one's.
  container.set_stdin_once(options.interactive && !options.detached);
  container.set_tty(options.tty);
  FLUYT_TRY(fill_mounts(options, cwd, container));
  FLUYT_TRY(fill_resources(options, *container.mutable_linux()->mutable_resources()));
  return fill_security(options, plan, *container.mutable_linux()->mutable_security_context());
}

}  // namespace

Result<RunPlan> plan_run(const RunOptions& options, const std::string& mark,
                         const std::string& log_folder, const std::string& cwd) {
  FLUYT_TRY_CONTEXT(check_name(options.name), "--name");
  RunPlan plan;
  FLUYT_TRY(fill_labels(options, mark, plan));
  FLUYT_TRY(fill_sandbox(options, log_folder, plan));
  FLUYT_TRY(fill_container(options, cwd, plan));
  return plan;
}

}  // namespace fluyt::cli
