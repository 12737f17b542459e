#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"

namespace fluyt::engine {

Result<> Engine::stop_sandbox(const std::string& id) {
  auto found = core_->get_sandbox(id);
  if (!found.ok() && found.error().code() == Code::kNotFound) return {};
  const SandboxEntryPtr entry = FLUYT_TRY(std::move(found));
  trace::Request walk(core_->traces, "StopPodSandbox");
  walk.of(entry->value()->id);
  entry->ending = true;  // before the lock: a create under way learns of it
  const std::scoped_lock verbs(entry->verbs);
  FLUYT_TRY_CONTEXT(walk.ended(core_->stop(*entry)), cat("sandbox ", entry->value()->id));
  return {};
}

}  // namespace fluyt::engine
