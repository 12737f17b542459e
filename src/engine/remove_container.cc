#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"
#include "engine/sandbox_lifetime.h"

namespace fluyt::engine {

Result<> Engine::Core::remove_ended(ContainerEntry& entry) {
  const std::scoped_lock verbs(entry.verbs);
  const ContainerPtr container = entry.value();
  {
    auto all = tables.lock();
    if (!all->containers.contains(container->id)) return {};  // another remove was faster
  }
  FLUYT_TRY_CONTEXT(undo_container(entry), cat("container ", container->id));
  return {};
}

Result<> Engine::remove_container(const std::string& id) {
  auto found = core_->get_container(id);
  if (!found.ok() && found.error().code() == Code::kNotFound) return {};
  const ContainerEntryPtr entry = FLUYT_TRY(std::move(found));
  trace::Request walk(core_->traces, "RemoveContainer");
  walk.of(entry->value()->sandbox_id, entry->value()->id);
  entry->ending = true;
  // Killed before the lock is asked for: a start that waits for the program must not hold us up.
  FLUYT_TRY(stop_container(entry->value()->id, 0));
  auto adopted = core_->adopt(*entry->sandbox);
  // Where the monitor is gone, the sandbox has ended with it.
  if (!adopted.ok() && adopted.error().code() != Code::kNotFound)
    return std::move(adopted).error().add_context(cat("container ", entry->value()->id));
  // A sandbox that ends with its containers may be about it: behind that, nobody asks its monitor.
  std::unique_lock<std::mutex> of_sandbox;
  const auto lifetime = lifetime_of(entry->sandbox->value()->config.annotations);
  if (lifetime.ok() && *lifetime != SandboxLifetime::kUntilStopped)
    of_sandbox = std::unique_lock(entry->sandbox->verbs);
  return core_->remove_ended(*entry);
}

}  // namespace fluyt::engine
