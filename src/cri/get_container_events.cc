#include "cri/runtime_service.h"
// after api.h
#include <deque>

#include "cri/events.h"
#include "engine/event_queue.h"

namespace fluyt::cri {
namespace {

/// How often a call looks whether its caller is still there.
constexpr int64_t kLookMs = 500;
/// A caller who has lost events and does not even take those that it was sent is cut off.
constexpr int64_t kStuckNs = 10'000'000'000;

}  // namespace

/// A caller who reads too slowly gets RESOURCE_EXHAUSTED once its queue was full: it has to list
/// anew, as the kubelet does after every error here. The headers are sent first, so that a caller
/// who waits for them knows from when on it misses nothing.
grpc::Status RuntimeService::GetContainerEvents(
    grpc::ServerContext* context, const api::GetEventsRequest* /*request*/,
    grpc::ServerWriter<api::ContainerEventResponse>* writer) {
  using State = engine::EventQueue::State;
  engine::EventQueue queue;
  const auto subscription = engine_.subscribe([&](const engine::Event& event) {
    if (!event.sandbox && event.kind != engine::Event::Kind::kEnd) return;  // of an image
    queue.push(event);
    const auto full = queue.full_since();
    if (full && now_boot_ns() - *full > kStuckNs) context->TryCancel();
  });
  writer->SendInitialMetadata();
  while (!context->IsCancelled()) {
    std::deque<engine::Event> events;
    const State state = queue.take(events, Deadline::after_ms(kLookMs));
    for (const engine::Event& event : events) {
      for (const auto& message : event_messages(event)) {
        if (!writer->Write(message)) {
          return {grpc::StatusCode::CANCELLED, "the caller went away"};
        }
      }
    }
    if (state == State::kFull) {
      return {grpc::StatusCode::RESOURCE_EXHAUSTED, "events were lost: list again, then listen"};
    }
    if (state == State::kEnded) return {grpc::StatusCode::UNAVAILABLE, "fluytd is stopping"};
  }
  return {grpc::StatusCode::CANCELLED, "the caller went away"};
}

}  // namespace fluyt::cri
