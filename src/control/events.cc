#include <deque>

#include "control/service.h"
#include "engine/event_queue.h"

namespace fluyt::control {

namespace {

v1::Event::Kind kind_of(engine::Event::Kind kind) {
  switch (kind) {
    case engine::Event::Kind::kSandboxReady:
      return v1::Event::SANDBOX_READY;
    case engine::Event::Kind::kSandboxStopped:
      return v1::Event::SANDBOX_STOPPED;
    case engine::Event::Kind::kSandboxRemoved:
      return v1::Event::SANDBOX_REMOVED;
    case engine::Event::Kind::kContainerCreated:
      return v1::Event::CONTAINER_CREATED;
    case engine::Event::Kind::kContainerStarted:
      return v1::Event::CONTAINER_STARTED;
    case engine::Event::Kind::kContainerStopped:
      return v1::Event::CONTAINER_STOPPED;
    case engine::Event::Kind::kContainerRemoved:
      return v1::Event::CONTAINER_REMOVED;
    case engine::Event::Kind::kImagePulled:
      return v1::Event::IMAGE_PULLED;
    case engine::Event::Kind::kImageRemoved:
      return v1::Event::IMAGE_REMOVED;
    case engine::Event::Kind::kEnd:
      break;  // the queue keeps it
  }
  return v1::Event::UNKNOWN;
}

v1::Event message_of(const engine::Event& event) {
  v1::Event message;
  message.set_time(event.time);
  message.set_kind(kind_of(event.kind));
  if (event.container) {
    message.set_id(event.container->id);
    message.set_sandbox_id(event.container->sandbox_id);
    message.set_name(event.container->config.name.name);
    message.set_image(event.container->config.image);
    if (event.kind == engine::Event::Kind::kContainerStopped) {
      message.set_exit_code(event.container->exit_code);
      message.set_reason(event.container->reason);
    }
  } else if (event.sandbox) {
    message.set_id(event.sandbox->id);
    message.set_name(event.sandbox->config.name.name);
  } else {
    message.set_id(event.image);
  }
  return message;
}

}  // namespace

grpc::Status ControlService::Events(grpc::ServerContext* context,
                                    const v1::EventsRequest* /*request*/,
                                    grpc::ServerWriter<v1::Event>* writer) {
  engine::EventQueue queue;
  const auto subscription =
      engine_.subscribe([&](const engine::Event& event) { queue.push(event); });
  v1::Event subscribed;
  subscribed.set_kind(v1::Event::SUBSCRIBED);
  subscribed.set_time(now_unix_ns());
  writer->Write(subscribed);
  while (!context->IsCancelled()) {
    std::deque<engine::Event> events;
    const auto state = queue.take(events, Deadline::after_ms(kLookMs));
    for (const engine::Event& event : events) {
      if (!writer->Write(message_of(event))) return grpc::Status::OK;
    }
    if (state == engine::EventQueue::State::kFull) {
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, "events were lost: list again, then listen"};
    }
    if (state == engine::EventQueue::State::kEnded) {
      return {grpc::StatusCode::UNAVAILABLE, "fluytd is stopping"};
    }
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::control
