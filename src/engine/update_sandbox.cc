#include "engine/core.h"

namespace fluyt::engine {

Result<> Engine::update_sandbox(const std::string& id, const std::optional<Resources>& overhead,
                                const std::optional<Resources>& resources) {
  const SandboxEntryPtr entry = FLUYT_TRY(core_->get_sandbox(id));
  return entry->change(*core_->store, [&](Sandbox& now) {
    if (overhead) now.config.overhead = overhead;
    if (resources) now.config.resources = resources;
    return true;
  });
}

}  // namespace fluyt::engine
