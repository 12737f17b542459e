#include <mutex>

#include "base/strings.h"
#include "engine/core.h"

/// What an earlier fluytd owes to the network. A plugin may hang until its deadline, so a start
/// does not wait for it.
namespace fluyt::engine {
namespace {

constexpr int64_t kCollectMs = 30'000;

}  // namespace

void Engine::Core::detach_later(const SandboxEntryPtr& entry) {
  network_worker.post([weak = weak_from_this(), entry] {
    const auto core = weak.lock();
    if (!core) return;
    const std::scoped_lock verbs(entry->verbs);
    const SandboxPtr sandbox = entry->value();
    if (!sandbox->network_attached) return;              // a stop or remove was faster
    if (sandbox->state == SandboxState::kReady) return;  // it was made again, and needs it
    core->log_if_failed(core->stop(*entry), cat("sandbox ", sandbox->id, ": half-done stop"));
  });
}

void Engine::Core::collect_later() {
  network_worker.post([weak = weak_from_this()] {
    const auto core = weak.lock();
    if (!core) return;
    const auto exists = [&](const std::string& id) { return core->knows_sandbox(id); };
    core->log_if_failed(core->parts.network->collect(exists, Deadline::after_ms(kCollectMs)),
                        "network: removing what is left over");
  });
}

}  // namespace fluyt::engine
