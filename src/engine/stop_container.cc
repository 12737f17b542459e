#include "base/signal_name.h"
#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"

namespace fluyt::engine {
namespace {

constexpr int kSigterm = 15;
constexpr int64_t kMaxGraceMs = 30LL * 24 * 3600 * 1000;  // poll(2) counts milliseconds in an int

bool has_exited(const Container& container) { return container.state == ContainerState::kExited; }

}  // namespace

/// Takes no lock: signals may come twice, and a second stop with a shorter grace is to be obeyed.
Result<> Engine::stop_container(const std::string& id, int64_t grace_ms) {
  auto found = core_->get_container(id);
  if (!found.ok() && found.error().code() == Code::kNotFound) return {};
  const ContainerEntryPtr entry = FLUYT_TRY(std::move(found));
  trace::Request walk(core_->traces, "StopContainer");
  walk.of(entry->value()->sandbox_id, entry->value()->id);
  if (has_exited(*entry->value())) return {};
  // A monitor that stands still is done without.
  auto adopted = core_->adopt(*entry->sandbox);
  if (!adopted.ok() && adopted.error().code() != Code::kUnavailable &&
      adopted.error().code() != Code::kNotFound)
    return std::move(adopted).error().add_context(cat("container ", entry->value()->id));
  const ContainerPtr container = entry->value();
  const auto client = entry->sandbox->client();
  if (has_exited(*container)) return {};

  if (client && grace_ms > 0 && container->state == ContainerState::kRunning) {
    // From now: what a monitor takes to answer is the container's time.
    const Deadline grace = Deadline::after_ms(grace_ms < kMaxGraceMs ? grace_ms : kMaxGraceMs);
    const int signal = signal_number(container->stop_signal).value_or(kSigterm);
    const Result<> asked = client->signal(container->id, signal, false);
    core_->log_if_failed(asked, cat("container ", container->id, ": signal ", signal));
    // Whoever could not be told has nothing to wait for.
    if (asked.ok() && core_->wait_exit(*entry, *container, grace)) return {};
  }
  FLUYT_TRY_CONTEXT(core_->kill(*entry, Core::By::kOther), cat("container ", container->id));
  return {};
}

Result<> Engine::signal_container(const std::string& id, int signal) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  const ContainerPtr container = entry->value();
  const auto client = FLUYT_TRY(core_->find_client(*entry->sandbox));
  if (container->state != ContainerState::kRunning || !client) {
    return Error(Code::kFailedPrecondition, cat("container ", container->id, " is ",
                                                name_of(container->state), ": expected running"));
  }
  return client->signal(container->id, signal, false);
}

}  // namespace fluyt::engine
