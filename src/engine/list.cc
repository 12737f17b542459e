#include "engine/core.h"

namespace fluyt::engine {

std::vector<SandboxPtr> Engine::list_sandboxes(const SandboxFilter& filter) {
  std::vector<SandboxPtr> found;
  for (const auto& entry : core_->sandboxes()) {
    SandboxPtr sandbox = entry->value();
    if (sandbox->state != SandboxState::kCreating && matches(filter, *sandbox)) {
      found.push_back(std::move(sandbox));
    }
  }
  return found;
}

Result<SandboxPtr> Engine::get_sandbox(const std::string& id) {
  return FLUYT_TRY(core_->get_sandbox(id))->value();
}

std::vector<ContainerPtr> Engine::list_containers(const ContainerFilter& filter) {
  std::vector<ContainerPtr> found;
  for (const auto& entry : core_->containers()) {
    ContainerPtr container = entry->value();
    if (container->state != ContainerState::kCreating && matches(filter, *container)) {
      found.push_back(std::move(container));
    }
  }
  return found;
}

Result<ContainerPtr> Engine::get_container(const std::string& id) {
  return FLUYT_TRY(core_->get_container(id))->value();
}

Result<std::function<ContainerPtr(Deadline)>> Engine::watch_exit(const std::string& id) {
  return std::function([entry = FLUYT_TRY(core_->get_container(id))](Deadline deadline) {
    return entry->wait(
        [](const Container& container) { return container.state == ContainerState::kExited; },
        deadline);
  });
}

Result<ContainerPtr> Engine::wait_container(const std::string& id, Deadline deadline) {
  return FLUYT_TRY(watch_exit(id))(deadline);
}

}  // namespace fluyt::engine
