#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"

namespace fluyt::engine {
namespace {

constexpr int64_t kStartMs = 60'000;

}  // namespace

Result<> Engine::start_container(const std::string& id) {
  trace::Request walk(core_->traces, "StartContainer");
  const auto first = core_->begin_call();
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  walk.of(entry->value()->sandbox_id, entry->value()->id);
  const std::scoped_lock verbs(entry->verbs);
  const ContainerPtr container = entry->value();
  if (container->state != ContainerState::kCreated) {
    return Error(Code::kFailedPrecondition, cat("container ", container->id, " is ",
                                                name_of(container->state), ": expected created"));
  }
  const auto client = FLUYT_TRY(core_->find_client(*entry->sandbox));
  if (!client || entry->sandbox->ending) {
    return Error(Code::kFailedPrecondition,
                 cat("container ", container->id, ": its sandbox is not ready"));
  }
  auto started = client->start(container->id, Deadline::after_ms(kStartMs));
  if (started.ok()) {
    core_->container_told(*started);
    return {};
  }
  // A program that could not be executed has ended the container: the list says how.
  const auto all = client->list();
  if (all.ok()) {
    for (const auto& info : *all) {
      if (info.id == container->id) core_->container_told(info);
    }
  }
  return walk.ended(Result<>(
      about_program(std::move(started).error()).add_context(cat("container ", container->id))));
}

}  // namespace fluyt::engine
