#include "engine/core.h"
#include "engine/readings.h"

namespace fluyt::engine {

Result<ContainerStats> Engine::container_stats(const std::string& id) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  const std::vector<ContainerPtr> one{entry->value()};
  return std::move(read_stats(*core_, one, read_layers(*core_, one)).front());
}

std::vector<ContainerStats> Engine::list_container_stats(const ContainerFilter& filter) {
  std::vector<ContainerPtr> running = list_containers(filter);
  std::erase_if(running,
                [](const auto& container) { return container->state != ContainerState::kRunning; });
  return read_stats(*core_, running, read_layers(*core_, running));
}

}  // namespace fluyt::engine
