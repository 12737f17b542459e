#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"

namespace fluyt::engine {

Result<> Engine::Core::remove(SandboxEntry& entry) {
  const SandboxPtr sandbox = entry.value();
  FLUYT_TRY(stop(entry));
  // Those of a create that failed and could not be undone then, too: no verb sees them.
  for (const auto& container : containers_of(sandbox->id)) {
    container->ending = true;
    FLUYT_TRY(remove_ended(*container));
  }
  return change_and_tell(entry, Event::Kind::kSandboxRemoved, [&]() -> Result<> {
    forget_sandbox(*sandbox);
    return {};
  });
}

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
  FLUYT_TRY_CONTEXT(walk.ended(core_->remove(*entry)), cat("sandbox ", sandbox->id));
  return {};
}

}  // namespace fluyt::engine
