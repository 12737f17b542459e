#include <algorithm>
#include <optional>
#include <tuple>

#include "base/id.h"
#include "base/signal_name.h"
#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"
#include "engine/image_volumes.h"
#include "engine/sandbox_files.h"
#include "engine/selinux.h"
#include "engine/spec_input.h"
#include "oci/reference.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr std::string_view kDefaultStopSignal = "SIGTERM";

}  // namespace

Result<image::Image> Engine::Core::image_of(const std::string& name) {
  const auto found = FLUYT_TRY_CONTEXT(parts.images->find(name), "image.image");
  if (!found) {
    return Error(Code::kNotFound, cat("image.image: ", quote(name), " is not here: pull it first"));
  }
  return *found;
}

namespace {

/// name@digest of the repository that the caller asked for, else any, else the id.
std::string digest_of(const image::Image& image, const std::string& asked) {
  const auto reference = oci::Reference::parse(asked);
  for (const auto& digest : image.repo_digests) {
    if (reference.ok() && digest.starts_with(reference->name() + "@")) return digest;
  }
  return image.repo_digests.empty() ? image.id : image.repo_digests.front();
}

/// The name that a pod's status shows: what a person asked for where the image has that name, else
/// its first tag, else a name@digest. A kubelet asks by id, which tells nobody anything.
std::string name_of(const image::Image& image, const ContainerConfig& config) {
  const std::string& asked =
      config.user_specified_image.empty() ? config.image : config.user_specified_image;
  const auto reference = oci::Reference::parse(asked);
  for (const auto* names : {&image.repo_tags, &image.repo_digests}) {
    if (reference.ok() && std::ranges::find(*names, reference->text()) != names->end())
      return reference->text();
  }
  if (!image.repo_tags.empty()) return image.repo_tags.front();
  return image.repo_digests.empty() ? config.image : image.repo_digests.front();
}

/// The caller's, else the image's where it names one that exists, else SIGTERM.
std::string stop_signal_of(const ContainerConfig& config, const image::Image& image) {
  if (!config.stop_signal.empty()) return config.stop_signal;
  const std::string& own = image.config.config.stop_signal;
  return signal_number(own) ? own : std::string(kDefaultStopSignal);
}

}  // namespace

Result<> Engine::Core::admit_images(const Sandbox& sandbox, const ContainerConfig& config,
                                    const image::Image& image) {
  const trace::Span span("image policy");
  const std::string& in = sandbox.config.name.name_space;
  const auto said = [](const std::string& by_person, const std::string& by_caller) {
    return by_person.empty() ? by_caller : by_person;
  };
  FLUYT_TRY(parts.images->admit({image.id, said(config.user_specified_image, config.image), in}));
  for (size_t i = 0; i < config.mounts.size(); ++i) {
    const Mount& mount = config.mounts[i];
    if (mount.image.empty()) continue;
    FLUYT_TRY_CONTEXT(
        parts.images->admit({mount.image_id, said(mount.user_specified_image, mount.image), in}),
        cat(kImageVolumeFailed, ": mounts[", i, "].image"));
  }
  return {};
}

namespace {

// A container has its sandbox's user, network and IPC namespaces: it may say so, and nothing else.
// Who says nothing says POD, in a sandbox on the node's too.
Result<> admit_namespaces(const NamespaceOptions& of_sandbox, const NamespaceOptions& asked) {
  const auto wrong = [](std::string_view field, std::string_view value, std::string_view expected) {
    return Error(Code::kInvalidArgument, cat("linux.security_context.namespace_options.", field,
                                             ": ", value, ": expected ", expected));
  };
  constexpr std::string_view kAsSandbox = "what the sandbox was made with";
  const bool host = asked.user == NamespaceMode::kNode;
  const bool other = asked.user_ids && asked.user_ids != of_sandbox.user_ids;
  if (other || (host && of_sandbox.user_ids))
    return wrong("userns_options", host ? "NODE" : "POD", kAsSandbox);
  for (const auto& [field, has, mode] : {std::tuple{"network", of_sandbox.network, asked.network},
                                         {"ipc", of_sandbox.ipc, asked.ipc}}) {
    if (mode == NamespaceMode::kNode && has != NamespaceMode::kNode)
      return wrong(field, "NODE", kAsSandbox);
  }
  // The host's is not owned by the pod's user namespace: no proc could be mounted of it.
  if (asked.pid == NamespaceMode::kNode && of_sandbox.user_ids)
    return wrong("pid", "NODE", "another, as the sandbox has a user namespace of its own");
  return {};
}

Error not_ready(const Sandbox& sandbox) {
  return Error(Code::kFailedPrecondition,
               cat("sandbox ", sandbox.id, " is ", name_of(sandbox.state), ": expected ready"));
}

/// Makes the first missing source of a bind mount as a directory, as other CRI engines do (a
/// hostPath without a type relies on it); false when none is missing. Asked only after the runtime
/// has found something missing: to look before would hang with a file system that hangs.
Result<bool> make_missing_source(const std::vector<Mount>& mounts) {
  for (size_t i = 0; i < mounts.size(); ++i) {
    if (mounts[i].host_path.empty() || sys::exists(mounts[i].host_path)) continue;
    FLUYT_TRY_CONTEXT(sys::make_dirs(mounts[i].host_path, 0755), cat("mounts[", i, "].host_path"));
    if (!sys::exists(mounts[i].host_path)) return false;  // a link that leads nowhere
    return true;
  }
  return false;
}

/// Has the tree's files show under the label; where there is no mount to do so, they get it.
void label_tree(sys::OverlayMount& tree, const std::string& what, monitor::CreateRequest& request,
                const std::string& label) {
  if (!tree.lower_dirs.empty()) {
    tree.label = label;
  } else {
    request.relabels.push_back({.path = tree.upper_dir, .label = label, .what = what});
  }
}

/// What the container's program is to have of files, in a pod with SELinux labels or for a label
/// that it asked for. The pod's own files too: another container of the pod may have others.
void add_labels(const Engine::Core& core, const ContainerConfig& config, const Sandbox& sandbox,
                const std::string& label, monitor::CreateRequest& request) {
  if (label.empty()) return;
  label_tree(*request.root, "root", request, label);
  for (auto& [source, tree] : request.trees) label_tree(tree, "image volume", request, label);
  for (const std::string_view name : kSandboxFiles) {
    request.relabels.push_back({.path = cat(core.sandbox_dir(sandbox.id), "/", name),
                                .label = label,
                                .what = "the pod's files"});
  }
  for (size_t i = 0; i < config.mounts.size(); ++i) {
    const Mount& mount = config.mounts[i];
    if (!mount.selinux_relabel || mount.host_path.empty()) continue;
    request.relabels.push_back({.path = mount.host_path,
                                .label = label,
                                .what = cat("mounts[", i, "].selinux_relabel"),
                                .of_caller = true});
  }
}

}  // namespace

Result<> Engine::Core::make_container(ContainerEntry& entry, const image::Image& image) {
  const ContainerPtr container = entry.value();
  const SandboxPtr sandbox = entry.sandbox->value();
  const auto client = FLUYT_TRY(find_client(*entry.sandbox));
  if (!client) return not_ready(*sandbox);

  std::optional<trace::Span> span(std::in_place, "specification");
  const oci::Spec spec = FLUYT_TRY(make_spec(*this, *container, *sandbox, image));
  monitor::CreateRequest request;
  request.id = container->id;
  request.bundle = bundle_dir(sandbox->id, container->id);
  request.spec_json = oci::to_json(spec);
  request.open_stdin = container->config.open_stdin;
  request.stdin_once = container->config.stdin_once;
  const NamespaceOptions& namespaces = container->config.security.namespaces;
  if (namespaces.pid == NamespaceMode::kTarget) request.joins = namespaces.target_id;
  if (!container->log_path.empty()) {
    request.log_directory = sandbox->config.log_directory;
    request.log_path = container->config.log_path;
  }
  FLUYT_TRY(sys::make_dirs(request.bundle, 0711));
  span.emplace("root");
  request.root = FLUYT_TRY(parts.images->create_root(
      container->id, image.id, {.ids = id_maps(sandbox->config.namespaces.user_ids)}));
  request.trees = FLUYT_TRY(make_image_volumes(*this, *container, *sandbox));
  const std::string& label = spec.linux_->mount_label;
  add_labels(*this, container->config, *sandbox, label, request);
  entry.level = hold_level(levels, label);
  span.emplace("monitor and runtime");
  auto created = client->create(request);
  while (!created.ok() && created.error().code() == Code::kNotFound &&
         FLUYT_TRY(make_missing_source(container->config.mounts))) {
    created = client->create(request);
  }
  if (!created.ok())
    return about_program(about_image_volume(*container, std::move(created).error()));

  span.emplace("record");
  const std::scoped_lock order(event_order);
  // Whoever ends it may have looked already for what there was to end.
  if (entry.sandbox->ending || entry.sandbox->value()->state != SandboxState::kReady)
    return not_ready(*entry.sandbox->value());
  FLUYT_TRY(entry.change(*store, [&](Container& now) {
    if (spec.process) {
      now.argv = spec.process->args;
      now.process_json = oci::to_json(*spec.process);
      const oci::User& user = spec.process->user;
      now.user = {user.uid, user.gid, {user.additional_gids.begin(), user.additional_gids.end()}};
    }
    now.file_label = label;
    now.created_at = now_unix_ns();
    now.started_at = now.finished_at = 0;
    now.exit_code = 0;
    now.reason.clear();
    now.message.clear();
    now.state = next(now.state, ContainerEvent::kMade).value_or(now.state);
    now = merged(std::move(now), *created);
    return true;
  }));
  entry.made_again = false;
  tell(Event::Kind::kContainerCreated, entry.sandbox->value(), entry.value());
  if (entry.early_exit) note_and_tell(entry, *entry.early_exit);
  return {};
}

namespace {

Result<std::string> record_and_make(Engine::Core& core, const ContainerEntryPtr& entry,
                                    const image::Image& image) {
  const std::string id = entry->value()->id;
  {
    const trace::Span span("record");
    FLUYT_TRY(core.store->put(*entry->value()));
  }
  core.tables.lock()->containers.emplace(id, entry);
  const std::scoped_lock verbs(entry->verbs);
  Result<> made = core.make_container(*entry, image);
  if (!made.ok()) {
    // A record that stays is undone at the next start, or with its sandbox.
    core.log_if_failed(core.undo_container(*entry), cat("container ", id, ": not undone"));
    return std::move(made).error();
  }
  return id;
}

}  // namespace

Result<std::string> Engine::create_container(const std::string& sandbox_id,
                                             const ContainerConfig& config,
                                             const GivenUp& given_up) {
  trace::Request walk(core_->traces, "CreateContainer");
  const auto first = core_->begin_call();
  const SandboxEntryPtr sandbox = FLUYT_TRY(core_->get_sandbox(sandbox_id));
  const SandboxPtr in = sandbox->value();
  if (in->state != SandboxState::kReady || sandbox->ending) return not_ready(*in);
  FLUYT_TRY(core_->find_client(*sandbox));
  FLUYT_TRY(admit_namespaces(in->config.namespaces, config.security.namespaces));
  const image::Image image = FLUYT_TRY(core_->image_of(config.image));

  Container container;
  container.id = make_id();
  container.sandbox_id = in->id;
  container.config = config;
  FLUYT_TRY(find_image_volumes(*core_, container.config));
  FLUYT_TRY(core_->admit_images(*in, container.config, image));
  container.image_id = image.id;
  container.image_digest = digest_of(image, config.image);
  container.image_name = name_of(image, config);
  container.stop_signal = stop_signal_of(config, image);
  if (!in->config.log_directory.empty() && !config.log_path.empty()) {
    container.log_path = in->config.log_directory + "/" + config.log_path;
  }

  using Kind = Names<std::pair<std::string, ContainerName>>::Claim::Kind;
  using Keep = Names<std::pair<std::string, ContainerName>>::Keep;
  const std::pair<std::string, ContainerName> name{in->id, config.name};
  const auto claim = core_->container_names.claim(name, container.id);
  if (claim.kind == Kind::kUnderWay)
    return core_->joined(&Core::get_container, claim.outcome.get(), given_up);
  if (claim.kind == Kind::kTaken) {
    const auto holder = core_->get_container(claim.holder);
    const ContainerPtr had = holder.ok() ? (*holder)->value() : nullptr;
    if (had && had->state == ContainerState::kCreated && !(*holder)->ending &&
        had->config == container.config && (*holder)->undelivered.exchange(false)) {
      (*holder)->undelivered = Core::is_given_up(given_up);
      return had->id;
    }
    return Error(Code::kAlreadyExists, cat("metadata: the name ", quote(config.name.name),
                                           " with attempt ", config.name.attempt, " in sandbox ",
                                           in->id, " is had by container ", claim.holder));
  }
  const auto entry = std::make_shared<ContainerEntry>(std::move(container), sandbox);
  walk.of(in->id, entry->value()->id);
  const Result<std::string> outcome = walk.ended(record_and_make(*core_, entry, image));
  entry->undelivered = outcome.ok() && Core::is_given_up(given_up);
  core_->container_names.settle(name, outcome, outcome.ok() ? Keep::kYes : Keep::kNo);
  return outcome;
}

}  // namespace fluyt::engine
