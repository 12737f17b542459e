#include "base/strings.h"
#include "engine/core.h"

namespace fluyt::engine {
namespace {

/// The monitor of a container that has not ended.
Result<std::shared_ptr<monitor::Client>> living(const ContainerEntry& entry) {
  const ContainerPtr container = entry.value();
  auto client = FLUYT_TRY(Engine::Core::find_client(*entry.sandbox));
  if (container->state == ContainerState::kExited || !client) {
    return Error(Code::kFailedPrecondition,
                 cat("container ", container->id, " is ", name_of(container->state),
                     ": expected created or running"));
  }
  return client;
}

}  // namespace

Result<> Engine::attach(const AttachRequest& request) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(request.container_id));
  const auto client = FLUYT_TRY(living(*entry));
  AttachRequest whole = request;
  whole.container_id = entry->value()->id;
  return client->attach(whole);
}

Result<> Engine::resize(const std::string& id, uint16_t height, uint16_t width) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  const auto client = FLUYT_TRY(living(*entry));
  return client->resize(entry->value()->id, height, width);
}

}  // namespace fluyt::engine
