#include "cri/events.h"

#include "cri/to_api.h"

namespace fluyt::cri {
namespace {

std::vector<api::ContainerEventType> types_of(engine::Event::Kind kind) {
  switch (kind) {
    case engine::Event::Kind::kSandboxReady:
      return {api::CONTAINER_CREATED_EVENT, api::CONTAINER_STARTED_EVENT};
    case engine::Event::Kind::kContainerCreated:
      return {api::CONTAINER_CREATED_EVENT};
    case engine::Event::Kind::kContainerStarted:
      return {api::CONTAINER_STARTED_EVENT};
    case engine::Event::Kind::kSandboxStopped:
    case engine::Event::Kind::kContainerStopped:
      return {api::CONTAINER_STOPPED_EVENT};
    case engine::Event::Kind::kSandboxRemoved:
    case engine::Event::Kind::kContainerRemoved:
      return {api::CONTAINER_DELETED_EVENT};
    case engine::Event::Kind::kImagePulled:
    case engine::Event::Kind::kImageRemoved:
    case engine::Event::Kind::kEnd:
      break;
  }
  return {};
}

}  // namespace

std::vector<api::ContainerEventResponse> event_messages(const engine::Event& event) {
  std::vector<api::ContainerEventResponse> messages;
  for (const api::ContainerEventType type : types_of(event.kind)) {
    api::ContainerEventResponse& message = messages.emplace_back();
    message.set_container_id(event.container ? event.container->id : event.sandbox->id);
    message.set_container_event_type(type);
    message.set_created_at(event.time);
    fill(*event.sandbox, *message.mutable_pod_sandbox_status());
    for (const auto& container : event.containers) {
      fill(*container, *message.add_containers_statuses());
    }
  }
  return messages;
}

}  // namespace fluyt::cri
