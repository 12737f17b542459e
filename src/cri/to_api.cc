#include "cri/to_api.h"

#include "base/strings.h"

namespace fluyt::cri {
namespace {

template <class Map>
void copy_map(const std::map<std::string, std::string>& from, Map* to) {
  for (const auto& [key, value] : from) (*to)[key] = value;
}

api::NamespaceMode to_api(engine::NamespaceMode mode) {
  switch (mode) {
    case engine::NamespaceMode::kPod:
      return api::POD;
    case engine::NamespaceMode::kContainer:
      return api::CONTAINER;
    case engine::NamespaceMode::kNode:
      return api::NODE;
    case engine::NamespaceMode::kTarget:
      return api::TARGET;
  }
  return api::POD;
}

api::MountPropagation to_api(engine::Propagation propagation) {
  switch (propagation) {
    case engine::Propagation::kPrivate:
      return api::PROPAGATION_PRIVATE;
    case engine::Propagation::kHostToContainer:
      return api::PROPAGATION_HOST_TO_CONTAINER;
    case engine::Propagation::kBidirectional:
      return api::PROPAGATION_BIDIRECTIONAL;
  }
  return api::PROPAGATION_PRIVATE;
}

void fill_image(const engine::ContainerConfig& config, api::ImageSpec& to) {
  to.set_image(config.image);
  to.set_user_specified_image(config.user_specified_image);
}

void fill_id_map(const engine::IdMap& from, api::IDMapping& to) {
  to.set_container_id(from.container_id);
  to.set_host_id(from.host_id);
  to.set_length(from.length);
}

void fill_mount(const engine::Mount& from, api::Mount& to) {
  to.set_container_path(from.container_path);
  to.set_host_path(from.host_path);
  to.set_readonly(from.readonly);
  to.set_recursive_read_only(from.recursive_readonly);
  to.set_selinux_relabel(from.selinux_relabel);
  to.set_propagation(to_api(from.propagation));
  for (const auto& map : from.uid_maps) fill_id_map(map, *to.add_uidmappings());
  for (const auto& map : from.gid_maps) fill_id_map(map, *to.add_gidmappings());
  if (from.image.empty()) return;
  to.mutable_image()->set_image(from.image);
  to.mutable_image()->set_user_specified_image(from.user_specified_image);
  to.mutable_image()->set_image_ref(from.image_id);
  to.set_image_sub_path(from.image_sub_path);
}

/// "SIGRTMIN+3" as CRI writes it, SIGRTMINPLUS3; RUNTIME_DEFAULT for what CRI has no name for.
api::Signal stop_signal(std::string name) {
  if (!name.starts_with("SIG")) name = "SIG" + name;
  for (const auto& [sign, word] :
       {std::pair<char, std::string_view>{'+', "PLUS"}, {'-', "MINUS"}}) {
    const size_t at = name.find(sign);
    if (at != std::string::npos) name.replace(at, 1, word);
  }
  api::Signal signal = api::RUNTIME_DEFAULT;
  return api::Signal_Parse(name, &signal) ? signal : api::RUNTIME_DEFAULT;
}

}  // namespace

api::PodSandboxState to_api(engine::SandboxState state) {
  return state == engine::SandboxState::kReady ? api::SANDBOX_READY : api::SANDBOX_NOTREADY;
}

api::ContainerState to_api(engine::ContainerState state) {
  switch (state) {
    case engine::ContainerState::kCreated:
      return api::CONTAINER_CREATED;
    case engine::ContainerState::kRunning:
      return api::CONTAINER_RUNNING;
    case engine::ContainerState::kExited:
      return api::CONTAINER_EXITED;
    case engine::ContainerState::kCreating:
      break;
  }
  return api::CONTAINER_UNKNOWN;
}

void fill(const engine::SandboxName& name, api::PodSandboxMetadata& to) {
  to.set_name(name.name);
  to.set_namespace_(name.name_space);
  to.set_uid(name.uid);
  to.set_attempt(name.attempt);
}

void fill(const engine::ContainerName& name, api::ContainerMetadata& to) {
  to.set_name(name.name);
  to.set_attempt(name.attempt);
}

void fill(const engine::Sandbox& sandbox, api::PodSandbox& to) {
  to.set_id(sandbox.id);
  fill(sandbox.config.name, *to.mutable_metadata());
  to.set_state(to_api(sandbox.state));
  to.set_created_at(sandbox.created_at);
  copy_map(sandbox.config.labels, to.mutable_labels());
  copy_map(sandbox.config.annotations, to.mutable_annotations());
  to.set_runtime_handler(sandbox.runtime_handler);
}

void fill(const engine::Sandbox& sandbox, api::PodSandboxStatus& to) {
  to.set_id(sandbox.id);
  fill(sandbox.config.name, *to.mutable_metadata());
  to.set_state(to_api(sandbox.state));
  to.set_created_at(sandbox.created_at);
  auto* network = to.mutable_network();
  // A stopped sandbox has no address any more; a host-network one none of its own.
  if (sandbox.state == engine::SandboxState::kReady) {
    for (size_t i = 0; i < sandbox.ips.size(); ++i) {
      if (i == 0) {
        network->set_ip(sandbox.ips[i]);
      } else {
        network->add_additional_ips()->set_ip(sandbox.ips[i]);
      }
    }
  }
  auto* options = to.mutable_linux()->mutable_namespaces()->mutable_options();
  options->set_network(to_api(sandbox.config.namespaces.network));
  options->set_pid(to_api(sandbox.config.namespaces.pid));
  options->set_ipc(to_api(sandbox.config.namespaces.ipc));
  if (const auto& users = sandbox.config.namespaces.user_ids) {
    options->mutable_userns_options()->set_mode(api::POD);
    fill_id_map(users->uids, *options->mutable_userns_options()->add_uids());
    fill_id_map(users->gids, *options->mutable_userns_options()->add_gids());
  } else if (sandbox.config.namespaces.user == engine::NamespaceMode::kNode) {
    options->mutable_userns_options()->set_mode(api::NODE);
  }
  copy_map(sandbox.config.labels, to.mutable_labels());
  copy_map(sandbox.config.annotations, to.mutable_annotations());
  to.set_runtime_handler(sandbox.runtime_handler);
}

void fill(const engine::Resources& from, api::LinuxContainerResources& to) {
  to.set_cpu_period(from.cpu_period);
  to.set_cpu_quota(from.cpu_quota);
  to.set_cpu_shares(from.cpu_shares);
  to.set_memory_limit_in_bytes(from.memory_limit_bytes);
  to.set_memory_swap_limit_in_bytes(from.memory_swap_limit_bytes);
  to.set_oom_score_adj(from.oom_score_adj);
  to.set_cpuset_cpus(from.cpuset_cpus);
  to.set_cpuset_mems(from.cpuset_mems);
  for (const auto& [size, bytes] : from.hugepage_limits) {
    auto* limit = to.add_hugepage_limits();
    limit->set_page_size(size);
    limit->set_limit(bytes);
  }
  copy_map(from.unified, to.mutable_unified());
}

void fill(const engine::Container& container, api::Container& to) {
  to.set_id(container.id);
  to.set_pod_sandbox_id(container.sandbox_id);
  fill(container.config.name, *to.mutable_metadata());
  fill_image(container.config, *to.mutable_image());
  to.set_image_ref(container.image_id);
  to.set_image_id(container.image_id);
  to.set_state(to_api(container.state));
  to.set_created_at(container.created_at);
  copy_map(container.config.labels, to.mutable_labels());
  copy_map(container.config.annotations, to.mutable_annotations());
}

void fill(const engine::Container& container, api::ContainerStatus& to) {
  to.set_id(container.id);
  fill(container.config.name, *to.mutable_metadata());
  to.set_state(to_api(container.state));
  to.set_created_at(container.created_at);
  to.set_started_at(container.started_at);
  to.set_finished_at(container.finished_at);
  to.set_exit_code(container.exit_code);
  fill_image(container.config, *to.mutable_image());
  // For people: a kubelet shows it as the image of the pod's status. Records of before have none.
  if (!container.image_name.empty()) to.mutable_image()->set_image(container.image_name);
  to.set_image_ref(container.image_digest);
  to.set_image_id(container.image_id);
  to.set_reason(container.reason);
  to.set_message(container.message);
  copy_map(container.config.labels, to.mutable_labels());
  copy_map(container.config.annotations, to.mutable_annotations());
  for (const auto& mount : container.config.mounts) fill_mount(mount, *to.add_mounts());
  to.set_log_path(container.log_path);
  fill(container.config.resources, *to.mutable_resources()->mutable_linux());
  auto* user = to.mutable_user()->mutable_linux();
  user->set_uid(container.user.uid);
  user->set_gid(container.user.gid);
  for (const int64_t group : container.user.groups) user->add_supplemental_groups(group);
  to.set_stop_signal(stop_signal(container.stop_signal));
}

void fill(const image::Image& image, api::Image& to) {
  to.set_id(image.id);
  for (const auto& tag : image.repo_tags) to.add_repo_tags(tag);
  for (const auto& digest : image.repo_digests) to.add_repo_digests(digest);
  to.set_size(image.size);
  to.set_pinned(image.pinned);
  to.mutable_spec()->set_image(image.id);
  // The user part of "user[:group]": digits are an id, everything else a name.
  const std::string_view user = split(image.config.config.user, ':').front();
  if (const auto uid = parse_number<int64_t>(user)) {
    to.mutable_uid()->set_value(*uid);
  } else {
    to.set_username(std::string(user));
  }
}

}  // namespace fluyt::cri
