#include "engine/sandbox_lifetime.h"

#include <algorithm>
#include <chrono>

#include "base/strings.h"
#include "engine/core.h"
#include "sys/file.h"

/// Sandboxes that end with their containers, because whoever made them is not there to do it.
namespace fluyt::engine {

Result<SandboxLifetime> lifetime_of(const std::map<std::string, std::string>& annotations) {
  const auto found = annotations.find(std::string(kLifetimeAnnotation));
  if (found == annotations.end()) return SandboxLifetime::kUntilStopped;
  if (found->second == "containers") return SandboxLifetime::kContainers;
  if (found->second == "containers-and-gone") return SandboxLifetime::kContainersAndGone;
  return Error(Code::kInvalidArgument,
               cat("annotations: ", kLifetimeAnnotation, ": ", quote(found->second, 64),
                   ": expected containers or containers-and-gone"));
}

SandboxLifetime lifetime_of(const Sandbox& sandbox) {
  // A record that says otherwise is nobody's wish.
  const auto said = lifetime_of(sandbox.config.annotations);
  return said.ok() ? *said : SandboxLifetime::kUntilStopped;
}

namespace {

constexpr std::chrono::milliseconds kFirstPause{500};
constexpr std::chrono::milliseconds kLongestPause{60'000};

bool has_ended(const ContainerEntryPtr& entry) {
  return entry->value()->state == ContainerState::kExited;
}

/// Only what a front end of ours made for one sandbox: a folder right below `logs`.
Result<> remove_logs(const std::string& logs, const std::string& folder) {
  if (logs.empty() || !folder.starts_with(logs + "/") || !sys::exists(folder)) return {};
  const std::string name = folder.substr(logs.size() + 1);
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) return {};
  return sys::remove_tree(FLUYT_TRY(sys::open(logs, O_PATH | O_DIRECTORY)), name);
}

/// With its `verbs`.
Result<> end(Engine::Core& core, SandboxEntry& entry) {
  const SandboxPtr sandbox = entry.value();
  const bool goes = lifetime_of(*sandbox) == SandboxLifetime::kContainersAndGone;
  if (!goes && sandbox->state != SandboxState::kReady && !sandbox->network_attached) return {};
  FLUYT_TRY(core.stop(entry));
  if (!goes) return {};
  // Before the records, whose end may fail and be tried again: then nobody knows the logs any more.
  FLUYT_TRY_CONTEXT(remove_logs(core.options.logs, sandbox->config.log_directory), "logs");
  return core.remove(entry);
}

/// `pause`: from an attempt that failed to the next.
void end_later(Engine::Core& core, const SandboxEntryPtr& entry, std::chrono::milliseconds delay,
               std::chrono::milliseconds pause) {
  core.enders.post_after(delay, [weak = core.weak_from_this(), entry, delay, pause] {
    const auto alive = weak.lock();
    if (!alive) return;
    if (delay.count() != 0) entry->ends_again = false;
    const Result<> ended = alive->end_with_containers(*entry);
    if (ended.ok() || entry->ends_again.exchange(true)) return;
    alive->log_if_failed(ended, cat("sandbox ", entry->value()->id,
                                    ": its containers have ended, it is ended again"));
    end_later(*alive, entry, pause, std::min(2 * pause, kLongestPause));
  });
}

}  // namespace

void Engine::Core::end_with_containers_later(const SandboxEntryPtr& entry) {
  if (lifetime_of(*entry->value()) == SandboxLifetime::kUntilStopped) return;
  end_later(*this, entry, {}, kFirstPause);
}

Result<> Engine::Core::end_with_containers(SandboxEntry& entry) {
  const std::scoped_lock verbs(entry.verbs);
  const std::string id = entry.value()->id;
  if (find_sandbox(id).get() != &entry) return {};  // a remove was faster
  const auto all = containers_of(id);
  // One that is made or made again meanwhile keeps it.
  if (all.empty() || !std::ranges::all_of(all, has_ended)) return {};
  return end(*this, entry);
}

}  // namespace fluyt::engine
