#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"

namespace fluyt::engine {
namespace {

/// A create that failed and could not be undone then. No verb sees it.
Result<> undo_half_made(Engine::Core& core, ContainerEntry& entry) {
  const std::scoped_lock verbs(entry.verbs);  // behind a create that is still under way
  const ContainerPtr container = entry.value();
  if (container->state != ContainerState::kCreating) return {};
  if (!core.tables.lock()->containers.contains(container->id)) return {};
  return core.undo_container(entry);
}

}  // namespace

Result<> Engine::remove_sandbox(const std::string& id) {
  auto found = core_->get_sandbox(id);
  if (!found.ok() && found.error().code() == Code::kNotFound) return {};
  const SandboxEntryPtr entry = FLUYT_TRY(std::move(found));
  const SandboxPtr sandbox = entry->value();
  trace::Request walk(core_->traces, "RemovePodSandbox");
  walk.of(sandbox->id);
  entry->ending = true;
  const std::scoped_lock verbs(entry->verbs);
  {
    auto all = core_->tables.lock();
    if (!all->sandboxes.contains(sandbox->id)) return {};  // another remove was faster
  }
  FLUYT_TRY_CONTEXT(walk.ended(core_->stop(*entry)), cat("sandbox ", sandbox->id));
  for (const auto& container : core_->containers_of(sandbox->id)) {
    FLUYT_TRY_CONTEXT(undo_half_made(*core_, *container), cat("sandbox ", sandbox->id));
    FLUYT_TRY_CONTEXT(remove_container(container->value()->id), cat("sandbox ", sandbox->id));
  }
  return core_->change_and_tell(*entry, Event::Kind::kSandboxRemoved, [&]() -> Result<> {
    core_->forget_sandbox(*sandbox);
    return {};
  });
}

}  // namespace fluyt::engine
