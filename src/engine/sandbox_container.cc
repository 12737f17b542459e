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
  const SandboxEntryPtr entry = find_sandbox(info.id);
  if (!entry || entry->ending || !entry->value()->own_container) return;
  sandbox_told_lost(info.id, kSandboxContainerEnded);
}

}  // namespace fluyt::engine
