#include "base/strings.h"
#include "engine/core.h"
#include "engine/signals.h"

namespace fluyt::engine {
namespace {

constexpr int kSigkill = 9;
constexpr int kSigterm = 15;
constexpr int64_t kKillMs = 10'000;
constexpr int64_t kMaxGraceMs = 30LL * 24 * 3600 * 1000;  // poll(2) counts milliseconds in an int

bool has_exited(const Container& container) { return container.state == ContainerState::kExited; }

}  // namespace

/// Takes no lock: signals may come twice, and a second stop with a shorter grace is to be obeyed.
Result<> Engine::stop_container(const std::string& id, int64_t grace_ms) {
  auto found = core_->get_container(id);
  if (!found.ok() && found.error().code() == Code::kNotFound) return {};
  const ContainerEntryPtr entry = FLUYT_TRY(std::move(found));
  const ContainerPtr container = entry->value();
  const auto client = entry->sandbox->client();
  // Without a monitor there is nothing left to stop: whoever ends it notes the exit.
  if (has_exited(*container) || !client) return {};

  if (grace_ms > 0 && container->state == ContainerState::kRunning) {
    const int signal = signal_number(container->stop_signal).value_or(kSigterm);
    FLUYT_TRY_CONTEXT(client->signal(container->id, signal, false),
                      cat("container ", container->id));
    const Deadline grace = Deadline::after_ms(grace_ms < kMaxGraceMs ? grace_ms : kMaxGraceMs);
    if (has_exited(*entry->wait(has_exited, grace))) return {};
  }
  FLUYT_TRY_CONTEXT(client->signal(container->id, kSigkill, true),
                    cat("container ", container->id));
  if (has_exited(*entry->wait(has_exited, Deadline::after_ms(kKillMs)))) return {};
  return Error(Code::kDeadlineExceeded, cat("container ", container->id, " still runs ",
                                            kKillMs / 1000, " s after SIGKILL"));
}

Result<> Engine::signal_container(const std::string& id, int signal) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  const ContainerPtr container = entry->value();
  const auto client = entry->sandbox->client();
  if (container->state != ContainerState::kRunning || !client) {
    return Error(Code::kFailedPrecondition, cat("container ", container->id, " is ",
                                                name_of(container->state), ": expected running"));
  }
  return client->signal(container->id, signal, false);
}

}  // namespace fluyt::engine
