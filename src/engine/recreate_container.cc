#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"
#include "engine/sandbox_lifetime.h"
#include "sys/file.h"

/// A container that has exited is created once more: the same id, configuration and root, with what
/// it has written there. On record it stays exited until it is made, so that a start of ours after
/// an end in the middle finds what there was before.
namespace fluyt::engine {
namespace {

constexpr int64_t kForgetMs = 30'000;

/// A sandbox that has stopped, or was lost: ready again, or stopped as before.
Result<> make_ready(Engine::Core& core, SandboxEntry& entry) {
  const std::string id = entry.value()->id;
  // A stop that was half done, or a DEL that is owed.
  FLUYT_TRY(core.stop(entry));
  {
    const std::scoped_lock order(core.event_order);
    entry.lost = false;
  }
  entry.ending = false;
  Result<> made = core.make_sandbox(entry);
  if (!made.ok()) core.log_if_failed(core.stop(entry), cat("sandbox ", id, ": not undone"));
  return made;
}

}  // namespace

Result<> Engine::Core::make_again(ContainerEntry& entry) {
  const ContainerPtr container = entry.value();
  SandboxEntry& sandbox = *entry.sandbox;
  const image::Image image = FLUYT_TRY(image_of(container->image_id));
  FLUYT_TRY(admit_images(*sandbox.value(), container->config, image));
  const bool was_ready = sandbox.value()->state == SandboxState::kReady;
  if (!was_ready)
    FLUYT_TRY_CONTEXT(make_ready(*this, sandbox), cat("sandbox ", sandbox.value()->id));
  const auto client = FLUYT_TRY(find_client(sandbox));
  const auto make = [&]() -> Result<> {
    if (client) FLUYT_TRY(client->remove(container->id, Deadline::after_ms(kForgetMs)));
    FLUYT_TRY(sys::remove_tree(bundle_dir(container->sandbox_id, container->id)));
    cpu_rates.forget(container->id);
    {
      // From here on what is told of it is of the new one.
      const std::scoped_lock order(event_order);
      entry.early_exit.reset();
      entry.made_again = true;
    }
    return make_container(entry, image);
  };
  Result<> made = make();
  if (made.ok()) return made;
  {
    const std::scoped_lock order(event_order);
    entry.made_again = false;
  }
  if (!was_ready) {
    log_if_failed(stop(sandbox), cat("sandbox ", container->sandbox_id, ": not undone"));
  } else if (client) {
    log_if_failed(client->remove(container->id, Deadline::after_ms(kForgetMs)),
                  cat("container ", container->id, ": not undone"));
  }
  return made;
}

Result<> Engine::recreate_container(const std::string& id) {
  trace::Request walk(core_->traces, "RecreateContainer");
  const auto first = core_->begin_call();
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  walk.of(entry->value()->sandbox_id, entry->value()->id);
  const std::scoped_lock of_sandbox(entry->sandbox->verbs);
  const std::scoped_lock verbs(entry->verbs);
  const ContainerPtr container = entry->value();
  // Whoever stops its sandbox counts its containers: a kubelet would take this one for its own.
  if (lifetime_of(*entry->sandbox->value()) == SandboxLifetime::kUntilStopped) {
    return Error(Code::kFailedPrecondition,
                 cat("container ", container->id,
                     ": its sandbox is stopped by who made it, such as a kubelet, who is to make "
                     "another container; only those of fluyt run are made again"));
  }
  if (entry->ending || !core_->knows_container(container->id))
    return Error(Code::kNotFound, cat("container ", container->id, " is being removed"));
  if (container->state != ContainerState::kExited) {
    return Error(Code::kFailedPrecondition, cat("container ", container->id, " is ",
                                                name_of(container->state), ": expected exited"));
  }
  // Two mounts of one root would not know of each other's writes.
  if (entry->root_users != 0) {
    return Error(Code::kUnavailable,
                 cat("container ", container->id, ": files are copied from or to it: try again"));
  }
  FLUYT_TRY_CONTEXT(walk.ended(core_->make_again(*entry)), cat("container ", container->id));
  return {};
}

}  // namespace fluyt::engine
