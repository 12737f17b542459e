#include <optional>

#include "base/id.h"
#include "base/strings.h"
#include "base/trace.h"
#include "engine/cgroup_parent.h"
#include "engine/core.h"
#include "engine/pod_bandwidth.h"
#include "engine/sandbox_files.h"
#include "engine/sandbox_lifetime.h"
#include "engine/selinux.h"
#include "spec/sysctls.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr int64_t kMakeMs = 30'000;
constexpr int64_t kAttachMs = 120'000;

constexpr std::string_view kNamespaces = "linux.security_context.namespace_options.";

Result<> admit_users(Engine::Core& core, const std::string& handler,
                     const NamespaceOptions& asked) {
  if (!asked.user_ids) return {};
  if (!core.host.no_user_namespaces.empty()) {
    return Error(Code::kFailedPrecondition,
                 cat(kNamespaces,
                     "userns_options.mode: POD: not on this host: ", core.host.no_user_namespaces));
  }
  if (!core.can_have_users(handler)) {
    return Error(Code::kFailedPrecondition,
                 cat(kNamespaces, "userns_options.mode: POD: runtime handler ", quote(handler),
                     " does not say that it can have user namespaces and idmapped mounts"));
  }
  // The host's are not owned by the pod's user namespace: nothing could be mounted of them there.
  for (const auto& [name, mode] : {std::pair{"pid", asked.pid}, {"ipc", asked.ipc}}) {
    if (mode == NamespaceMode::kNode) {
      return Error(Code::kInvalidArgument,
                   cat(kNamespaces, name, ": NODE: expected POD",
                       name[0] == 'p' ? " or CONTAINER" : "", ", as userns_options has mode POD"));
    }
  }
  return {};
}

Result<> admit(const Options& options, const SandboxConfig& config) {
  if (!config.cgroup_parent.empty()) {
    FLUYT_TRY_CONTEXT(check_cgroup_parent(options.cgroup_driver, config.cgroup_parent),
                      "linux.cgroup_parent");
  }
  FLUYT_TRY(bandwidth_of(config.annotations));
  FLUYT_TRY(lifetime_of(config.annotations));
  if (config.namespaces.pid == NamespaceMode::kTarget) {
    return Error(Code::kInvalidArgument,
                 cat(kNamespaces,
                     "pid: TARGET: expected POD, CONTAINER or NODE: a sandbox is there "
                     "before its containers"));
  }
  if (config.namespaces.network != NamespaceMode::kPod &&
      config.namespaces.network != NamespaceMode::kNode) {
    return Error(Code::kInvalidArgument, cat(kNamespaces, "network: expected POD or NODE"));
  }
  if (config.namespaces.ipc != NamespaceMode::kPod &&
      config.namespaces.ipc != NamespaceMode::kNode) {
    return Error(Code::kInvalidArgument, cat(kNamespaces, "ipc: expected POD or NODE"));
  }
  return {};
}

/// The program of the sandbox's handler; none for the linked runtime. The monitor keeps it: what
/// the configuration says later is of no account to a sandbox that runs.
Result<std::optional<monitor::RuntimeProgram>> program_of(const Engine::Core& core,
                                                          const Sandbox& sandbox) {
  const auto options = core.now();
  const RuntimeHandler* handler = FLUYT_TRY(choose_handler(*options, sandbox.handler));
  if (handler == nullptr) return std::optional<monitor::RuntimeProgram>();
  return std::optional(monitor::RuntimeProgram{
      .path = handler->path,
      .options = handler->options,
      .systemd_cgroup = sandbox.cgroup_driver == CgroupDriver::kSystemd,
      .root = handler->root.empty() ? core.monitor_dir(sandbox.id) + "/runtime" : handler->root});
}

Result<monitor::SandboxRequest> monitor_request(const Sandbox& sandbox,
                                                const std::string& hostname) {
  const NamespaceOptions& namespaces = sandbox.config.namespaces;
  monitor::SandboxRequest request;
  request.id = sandbox.id;
  request.hostname = hostname;
  request.new_network = namespaces.network != NamespaceMode::kNode;
  // A pod on the host's network answers by the host's name.
  request.new_uts = request.new_network;
  request.new_ipc = namespaces.ipc != NamespaceMode::kNode;
  request.shared_pid = namespaces.pid == NamespaceMode::kPod;
  // A scope of its own would be one more call of systemd: there it shares the monitor's, which no
  // limit of the pod's reaches.
  if (sandbox.cgroup_driver == CgroupDriver::kCgroupfs)
    request.pod_init_cgroup = sandbox.cgroup_parent;
  request.users = id_maps(namespaces.user_ids);
  const auto sysctls = FLUYT_TRY(
      spec::sandbox_sysctls(sandbox.config.sysctls, {.network = request.new_network,
                                                     .ipc = request.new_ipc,
                                                     .user = namespaces.user_ids.has_value()}));
  request.sysctls.assign(sysctls.begin(), sysctls.end());
  return request;
}

}  // namespace

Result<> Engine::Core::make_sandbox(SandboxEntry& entry) {
  const SandboxPtr sandbox = entry.value();
  const SandboxConfig& config = sandbox->config;
  const std::string dir = sandbox_dir(sandbox->id);
  const std::string hostname = config.hostname.empty() ? FLUYT_TRY(host_name()) : config.hostname;
  std::optional<trace::Span> span(std::in_place, "folders");
  auto request = FLUYT_TRY(monitor_request(*sandbox, hostname));
  request.runtime = FLUYT_TRY(program_of(*this, *sandbox));
  FLUYT_TRY(sys::make_dirs(dir, 0711));
  if (!config.log_directory.empty()) {
    FLUYT_TRY_CONTEXT(sys::make_dirs(config.log_directory, 0755), "log_directory");
  }
  if (config.namespaces.ipc != NamespaceMode::kNode) {
    FLUYT_TRY(mount_shm(dir, config.namespaces.user_ids, sandbox->file_label));
  }

  const monitor::LaunchOptions launch = launch_options(*sandbox);
  span.emplace("monitor");
  const auto client =
      FLUYT_TRY_CONTEXT(parts.hub->launch(launch, events_for(sandbox->id)), "monitor");
  entry.set_client(client);
  span.emplace("namespaces");
  const auto made =
      FLUYT_TRY_CONTEXT(client->make_sandbox(request, Deadline::after_ms(kMakeMs)), "namespaces");

  if (made.user.empty() != request.users.empty())
    return Error(Code::kInternal, "namespaces: the monitor made no user namespace");

  span.reset();
  const bool attach = config.namespaces.network == NamespaceMode::kPod;
  // Recorded before ADD: whatever becomes of us, a DEL is owed from here on.
  FLUYT_TRY(entry.change(*store, [&](Sandbox& now) {
    now.boot_id = boot_id;
    now.namespaces = {made.user, made.network, made.ipc, made.uts, made.pid};
    now.monitor_pid = client->monitor_pid();
    now.network_attached = attach;
    return true;
  }));
  network::Attachment attachment;
  if (attach) {
    const trace::Span network("network");
    FLUYT_TRY_CONTEXT(network::loopback_up(made.network), "loopback");
    attachment = FLUYT_TRY_CONTEXT(
        parts.network->attach(network_of(*entry.value()), Deadline::after_ms(kAttachMs)),
        "network");
  }
  FLUYT_TRY(write_sandbox_files(dir, config, hostname, attachment.ips));
  // Behind the network: a guest kernel takes its namespace's devices as it finds them.
  if (sandbox->own_container) {
    const trace::Span own("sandbox container");
    FLUYT_TRY_CONTEXT(make_sandbox_container(*entry.value(), *client), "sandbox container");
  }
  const trace::Span told("record");
  return change_and_tell(entry, Event::Kind::kSandboxReady, [&]() -> Result<> {
    if (entry.lost) return Error(Code::kUnavailable, "its monitor or its pod init has ended");
    return entry.change(*store, [&](Sandbox& now) {
      now.ips = attachment.ips;
      now.network_result = attachment.result_json;
      now.reason.clear();
      now.state = next(now.state, SandboxEvent::kMade).value_or(now.state);
      return true;
    });
  });
}

namespace {

Result<std::string> record_and_make(Engine::Core& core, const SandboxEntryPtr& entry) {
  const std::string id = entry->value()->id;
  {
    const trace::Span span("record");
    FLUYT_TRY(core.store->put(*entry->value()));
  }
  core.tables.lock()->sandboxes.emplace(id, entry);
  const std::scoped_lock verbs(entry->verbs);
  Result<> made = core.make_sandbox(*entry);
  if (!made.ok()) {
    core.undo_or_show(*entry);
    return std::move(made).error();
  }
  core.logger.info(cat("sandbox ", id, " is ready"));
  return id;
}

}  // namespace

network::SandboxNetwork network_of(const Sandbox& sandbox) {
  network::SandboxNetwork network;
  network.sandbox_id = sandbox.id;
  network.netns_path = sandbox.namespaces.network;
  network.pod_name = sandbox.config.name.name;
  network.pod_namespace = sandbox.config.name.name_space;
  network.pod_uid = sandbox.config.name.uid;
  network.cgroup_parent = sandbox.config.cgroup_parent;
  // It was admitted; a record that says otherwise must still be detached.
  network.bandwidth = bandwidth_of(sandbox.config.annotations).value_or(network::Bandwidth());
  network.dns = {sandbox.config.dns.servers, sandbox.config.dns.searches,
                 sandbox.config.dns.options};
  for (const auto& port : sandbox.config.port_mappings) {
    if (port.host_port == 0) continue;  // CRI: none, never "pick one"
    network.port_mappings.push_back(
        {port.protocol, port.container_port, port.host_port, port.host_ip});
  }
  return network;
}

Result<std::string> Engine::run_sandbox(const SandboxConfig& config,
                                        const std::string& runtime_handler,
                                        const GivenUp& given_up) {
  trace::Request walk(core_->traces, "RunPodSandbox");
  const auto first = core_->begin_call();
  const auto options = core_->now();
  FLUYT_TRY(admit(*options, config));
  FLUYT_TRY(choose_handler(*options, runtime_handler));
  FLUYT_TRY(admit_users(*core_, handler_name(*options, runtime_handler), config.namespaces));
  Sandbox sandbox;
  sandbox.id = make_id();
  sandbox.config = config;
  sandbox.runtime_handler = runtime_handler;
  sandbox.handler = handler_name(*options, runtime_handler);
  sandbox.own_container = core_->wants_sandbox_container(sandbox.handler);
  sandbox.created_at = now_unix_ns();
  sandbox.boot_id = core_->boot_id;
  sandbox.cgroup_driver = options->cgroup_driver;
  sandbox.cgroup_parent = cgroup_parent_of(*options, sandbox);
  McsLevels::Hold level = FLUYT_TRY(label_sandbox(*options, core_->levels, core_->logger, sandbox));

  using Kind = Names<SandboxName>::Claim::Kind;
  using Keep = Names<SandboxName>::Keep;
  const auto claim = core_->sandbox_names.claim(config.name, sandbox.id);
  if (claim.kind == Kind::kUnderWay)
    return core_->joined(&Core::get_sandbox, claim.outcome.get(), given_up);
  if (claim.kind == Kind::kTaken) {
    const auto holder = core_->get_sandbox(claim.holder);
    const SandboxPtr had = holder.ok() ? (*holder)->value() : nullptr;
    if (had && had->state == SandboxState::kReady && !(*holder)->ending && had->config == config &&
        had->runtime_handler == runtime_handler && (*holder)->undelivered.exchange(false)) {
      (*holder)->undelivered = Core::is_given_up(given_up);
      return had->id;
    }
    return Error(Code::kAlreadyExists,
                 cat("metadata: the name ", quote(config.name.name), " in namespace ",
                     quote(config.name.name_space), " with uid ", quote(config.name.uid),
                     " and attempt ", config.name.attempt, " is had by sandbox ", claim.holder));
  }
  const auto entry = std::make_shared<SandboxEntry>(std::move(sandbox));
  entry->level = std::move(level);
  walk.of(entry->value()->id);
  const Result<std::string> outcome = walk.ended(record_and_make(*core_, entry));
  entry->undelivered = outcome.ok() && Core::is_given_up(given_up);
  const bool exists = entry->value()->state != SandboxState::kCreating;
  core_->sandbox_names.settle(config.name, outcome, exists ? Keep::kYes : Keep::kNo);
  return outcome;
}

}  // namespace fluyt::engine
