#include <array>

#include "base/strings.h"
#include "engine/core.h"
#include "engine/spec_input.h"
#include "sys/file.h"

/// A sandbox's own container: for runtimes whose containers of a pod have more in common than
/// namespaces, such as a guest kernel. It is one of the monitor's like the others, is made before
/// them and ends behind them, and has the sandbox's id. Nobody is told of it: what it is to those
/// who ask is the sandbox.
namespace fluyt::engine {
namespace {

constexpr int64_t kMakeMs = 30'000;
constexpr std::string_view kEnded = "SandboxContainerEnded";

Result<> make_root(const std::string& root) {
  for (const std::string_view folder : kSandboxFolders)
    FLUYT_TRY(sys::make_dirs(cat(root, "/", folder), 0755));
  return sys::write_file_atomic(sys::kCwd, cat(root, kSandboxProgram), "", 0755);
}

}  // namespace

Result<> Engine::Core::make_sandbox_container(const Sandbox& sandbox, monitor::Client& client) {
  monitor::CreateRequest request;
  request.id = sandbox.id;
  request.bundle = bundle_dir(sandbox.id, sandbox.id);
  request.spec_json = FLUYT_TRY(sandbox_spec(*this, sandbox));
  request.deadline_ms = kMakeMs;
  FLUYT_TRY(sys::make_dirs(request.bundle, 0711));
  FLUYT_TRY(make_root(request.bundle + "/rootfs"));
  FLUYT_TRY(client.create(request));
  FLUYT_TRY(client.start(sandbox.id, Deadline::after_ms(kMakeMs)));
  return {};
}

void Engine::Core::sandbox_container_told(const monitor::ContainerInfo& info) {
  if (info.state != monitor::ContainerState::kExited) return;
  SandboxEntryPtr entry;
  {
    auto all = tables.lock();
    const auto found = all->sandboxes.find(info.id);
    if (found == all->sandboxes.end()) return;
    entry = found->second;
  }
  const SandboxPtr sandbox = entry->value();
  if (entry->ending || !sandbox->own_container) return;
  // Known already. The ending below reads the monitor's records, which tell of it once more: while
  // a cgroup cannot be cleaned, it would have itself be done again without end.
  if (sandbox->state == SandboxState::kNotReady) return;
  // At once: its containers' ends are told in this very moment, and whoever sees one is not to find
  // the sandbox ready. The rest takes a lock that a verb may hold for long.
  note_lost(*entry, kEnded);
  const std::weak_ptr<Core> weak = weak_from_this();
  worker.post([weak, id = info.id] {
    if (const auto alive = weak.lock()) alive->sandbox_container_ended(id);
  });
}

void Engine::Core::sandbox_container_ended(const std::string& sandbox_id) {
  SandboxEntryPtr entry;
  {
    auto all = tables.lock();
    const auto found = all->sandboxes.find(sandbox_id);
    if (found == all->sandboxes.end()) return;
    entry = found->second;
  }
  const std::scoped_lock verbs(entry->verbs);
  // A stop, or the undoing of what made it, was faster.
  if (entry->ending || entry->value()->state == SandboxState::kCreating) return;
  logger.error(cat("sandbox ", sandbox_id, ": its own container has ended; ending the others"));
  note_lost(*entry, kEnded);
  // Each with how it ended, which the monitor is asked for before it goes.
  log_if_failed(kill_containers(sandbox_id), cat("sandbox ", sandbox_id));
  log_if_failed(end_monitor(*entry), cat("sandbox ", sandbox_id));
  if (entry->value()->network_attached) detach_later(entry);
}

}  // namespace fluyt::engine
