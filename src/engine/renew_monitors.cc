#include <algorithm>
#include <chrono>
#include <thread>

#include "base/strings.h"
#include "engine/cgroup_parent.h"
#include "engine/core.h"

namespace fluyt::engine {
namespace {

constexpr int64_t kRenewMs = 10'000;
constexpr int kAttempts = 100;  // of all together that end with a monitor that is busy
constexpr std::chrono::milliseconds kPause{200};
constexpr std::chrono::milliseconds kAdoptPause{500};

/// Success, too, when there is nothing to do.
Result<> renew(Engine::Core& core, const SandboxEntryPtr& entry) {
  // A verb of the sandbox goes first, and the next one waits until the new program answers.
  const std::scoped_lock verbs(entry->verbs);
  const auto client = entry->client();
  if (!client || entry->ending || entry->value()->state != SandboxState::kReady) return {};
  const std::string before = client->program();
  const std::string id = entry->value()->id;
  if (!FLUYT_TRY(core.parts.hub->renew(*client, core.launch_options(*entry->value()),
                                       Deadline::after_ms(kRenewMs))))
    return {};
  core.logger.info(cat("sandbox ", id, ": its monitor of fluyt ", before, " is fluyt ",
                       client->program(), " now"));
  return {};
}

/// One sandbox a job: what else is posted comes in between.
void renew_next(Engine::Core& core, std::vector<SandboxEntryPtr> left, int attempt) {
  if (left.empty()) return;
  const SandboxEntryPtr entry = left.back();
  left.pop_back();
  const Result<> renewed = renew(core, entry);
  const bool busy = !renewed.ok() && renewed.error().code() == Code::kUnavailable;
  if (busy && attempt + 1 < kAttempts) {
    // The others first; where all are busy, they are given the time to end what they do.
    if (left.size() <= static_cast<size_t>(attempt)) std::this_thread::sleep_for(kPause);
    left.insert(left.begin(), entry);
    ++attempt;
  } else if (!renewed.ok()) {
    core.logger.warn(cat("sandbox ", entry->value()->id,
                         ": its monitor goes on as it is: ", renewed.error().message()));
  }
  core.renewer.post([weak = core.weak_from_this(), left = std::move(left), attempt] {
    if (const auto alive = weak.lock()) renew_next(*alive, left, attempt);
  });
}

}  // namespace

monitor::LaunchOptions Engine::Core::launch_options(const Sandbox& sandbox) const {
  const auto in_force = now();
  return {.monitor_program = in_force->monitor_program,
          .pod_init_program = in_force->pod_init_program,
          .sandbox_id = sandbox.id,
          .state_dir = monitor_dir(sandbox.id),
          .cgroup = monitor_cgroups_path(*in_force, sandbox)};
}

void Engine::Core::adopt_later(const SandboxEntryPtr& entry) {
  renewer.post([weak = weak_from_this(), entry] {
    const auto alive = weak.lock();
    if (!alive) return;
    std::this_thread::sleep_for(kAdoptPause);
    const Result<> adopted = alive->adopt(*entry);
    if (adopted.ok()) {
      if (!entry->client()) return;  // it has ended meanwhile
      alive->logger.info(cat("sandbox ", entry->value()->id, ": its monitor answers"));
      return alive->renew_monitors();
    }
    if (adopted.error().code() != Code::kNotFound) alive->adopt_later(entry);
  });
}

void Engine::Core::renew_monitors() {
  std::vector<SandboxEntryPtr> ready = sandboxes();
  std::erase_if(ready, [](const auto& entry) { return !entry->client(); });
  if (ready.empty()) return;
  renewer.post([weak = weak_from_this(), ready = std::move(ready)] {
    if (const auto alive = weak.lock()) renew_next(*alive, ready, 0);
  });
}

}  // namespace fluyt::engine
