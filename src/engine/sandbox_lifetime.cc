#include "engine/sandbox_lifetime.h"

#include <algorithm>

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

bool has_ended(const ContainerEntryPtr& entry) {
  return entry->value()->state == ContainerState::kExited;
}

/// Only what a front end of ours made for one sandbox: a folder right below `logs`.
Result<> remove_logs(const std::string& logs, const std::string& folder) {
  if (logs.empty() || !folder.starts_with(logs + "/")) return {};
  const std::string name = folder.substr(logs.size() + 1);
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) return {};
  return sys::remove_tree(FLUYT_TRY(sys::open(logs, O_PATH | O_DIRECTORY)), name);
}

}  // namespace

void Engine::Core::end_with_containers_later(const SandboxEntryPtr& entry) {
  if (lifetime_of(*entry->value()) == SandboxLifetime::kUntilStopped) return;
  enders.post([weak = weak_from_this(), entry] {
    if (const auto core = weak.lock()) core->end_with_containers(*entry);
  });
}

void Engine::Core::end_with_containers(SandboxEntry& entry) {
  const std::scoped_lock verbs(entry.verbs);
  const SandboxPtr sandbox = entry.value();
  if (find_sandbox(sandbox->id).get() != &entry) return;  // a remove was faster
  const auto all = containers_of(sandbox->id);
  // One that is made or made again meanwhile keeps it.
  if (all.empty() || !std::ranges::all_of(all, has_ended)) return;
  const std::string what = cat("sandbox ", sandbox->id, ": its containers have ended");
  if (lifetime_of(*sandbox) == SandboxLifetime::kContainersAndGone) {
    const Result<> removed = remove(entry);
    log_if_failed(removed, what);
    if (removed.ok()) log_if_failed(remove_logs(options.logs, sandbox->config.log_directory), what);
  } else if (sandbox->state == SandboxState::kReady) {
    log_if_failed(stop(entry), what);
  }
}

}  // namespace fluyt::engine
