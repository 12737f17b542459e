#include "base/strings.h"
#include "engine/core.h"

namespace fluyt::engine {

Result<> Engine::reopen_log(const std::string& id) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  const ContainerPtr container = entry->value();
  const auto client = FLUYT_TRY(core_->find_client(*entry->sandbox));
  if (container->state != ContainerState::kRunning || !client) {
    return Error(Code::kFailedPrecondition, cat("container ", container->id, " is ",
                                                name_of(container->state), ": expected running"));
  }
  FLUYT_TRY_CONTEXT(client->reopen_log(container->id), cat("container ", container->id));
  return {};
}

}  // namespace fluyt::engine
