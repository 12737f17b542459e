#include "base/strings.h"
#include "engine/core.h"

namespace fluyt::engine {
namespace {

constexpr int32_t kStartFailedExitCode = 128;  // what CRI clients know for "could not be started"
constexpr int32_t kKilledExitCode = 137;
constexpr int32_t kUnknownExitCode = 255;

/// An OOM kill counts whoever it met: a container whose worker was killed has run short of memory,
/// however its first process ended then. containerd and CRI-O report it so, and people look for it.
std::string_view exit_reason(const Container& container, const monitor::ContainerInfo& info) {
  if (container.started_at == 0 && !info.message.empty()) return "StartError";
  if (info.oom_killed) return "OOMKilled";
  return info.exit_code == 0 ? "Completed" : "Error";
}

}  // namespace

Container merged(Container container, const monitor::ContainerInfo& info) {
  if (container.state == ContainerState::kExited) return container;
  if (info.pid != 0) container.pid = info.pid;
  if (info.created_at != 0) container.created_at = info.created_at;
  if (info.started_at != 0) container.started_at = info.started_at;
  if (!info.cgroup_unified.empty() || !info.cgroup_legacy.empty()) {
    container.cgroup = {info.cgroup_unified, info.cgroup_legacy, info.cgroup_holder};
  }
  if (info.state == monitor::ContainerState::kRunning) {
    container.state = next(container.state, ContainerEvent::kStarted).value_or(container.state);
  }
  const auto exited = next(container.state, ContainerEvent::kExited);
  if (info.state == monitor::ContainerState::kExited && exited) {
    container.state = *exited;
    container.pid = 0;
    container.finished_at = info.finished_at;
    container.exit_code = info.exit_code;
    container.message = info.message;
    if (info.log_bytes_dropped != 0) {
      container.message += cat(container.message.empty() ? "" : "; ", info.log_bytes_dropped,
                               " bytes of its output could not be written to its log");
    }
    container.reason = exit_reason(container, info);
    if (container.reason == "StartError" && container.exit_code == 0) {
      container.exit_code = kStartFailedExitCode;
    }
  }
  return container;
}

namespace {

Container ended(Container container, int32_t exit_code, std::string_view reason,
                std::string_view message, int64_t now_unix_ns) {
  const auto exited = next(container.state, ContainerEvent::kExited);
  if (!exited) return container;
  container.state = *exited;
  container.pid = 0;
  container.exit_code = exit_code;
  container.finished_at = now_unix_ns;
  container.reason = reason;
  container.message = message;
  return container;
}

}  // namespace

Container lost(Container container, int64_t now_unix_ns) {
  return ended(std::move(container), kKilledExitCode, kMonitorLost,
               "ended without its monitor seeing how", now_unix_ns);
}

Container lost_with_boot(Container container, int64_t now_unix_ns) {
  return ended(std::move(container), kUnknownExitCode, "Unknown",
               "the machine was started anew while it ran", now_unix_ns);
}

monitor::Events Engine::Core::events_for(const std::string& sandbox_id) {
  // Weak: a monitor's connection must not keep the engine alive.
  const std::weak_ptr<Core> weak = weak_from_this();
  monitor::Events events;
  events.container_changed = [weak](const monitor::ContainerInfo& info) {
    if (const auto core = weak.lock()) core->container_told(info);
  };
  events.exec_exited = [weak, sandbox_id](uint64_t exec_id, int32_t exit_code) {
    if (const auto core = weak.lock()) core->execs.exited(sandbox_id, exec_id, exit_code);
  };
  events.lost = [weak, sandbox_id] {
    const auto core = weak.lock();
    if (!core) return;
    core->worker.post([weak, sandbox_id] {
      if (const auto alive = weak.lock()) alive->monitor_lost(sandbox_id);
    });
  };
  return events;
}

void Engine::Core::container_told(const monitor::ContainerInfo& info) {
  ContainerEntryPtr entry;
  {
    auto all = tables.lock();
    const auto found = all->containers.find(info.id);
    if (found != all->containers.end()) entry = found->second;
  }
  if (!entry) {
    sandbox_container_told(info);
    return;
  }
  const std::scoped_lock order(event_order);
  // An exit may be the first that we hear of a start.
  if (info.state == monitor::ContainerState::kExited && info.started_at != 0 &&
      entry->value()->state == ContainerState::kCreated) {
    monitor::ContainerInfo started = info;
    started.state = monitor::ContainerState::kRunning;
    note_and_tell(*entry, started);
  }
  note_and_tell(*entry, info);
}

/// With `event_order` held.
void Engine::Core::note_and_tell(ContainerEntry& entry, const monitor::ContainerInfo& info) {
  ContainerState before{};
  const Result<> noted = entry.note(*store, [&](Container& container) {
    before = container.state;
    Container after = merged(container, info);
    if (after == container) return false;
    container = std::move(after);
    return true;
  });
  log_if_failed(noted, cat("container ", info.id, ": state not recorded"));
  const ContainerPtr now = entry.value();
  if (now->state == before) return;
  if (now->state == ContainerState::kRunning) {
    tell(Event::Kind::kContainerStarted, entry.sandbox->value(), now);
  } else if (now->state == ContainerState::kExited) {
    logger.info(
        cat("container ", info.id, " exited with ", now->exit_code, " (", now->reason, ")"));
    log_bytes_dropped += info.log_bytes_dropped;
    if (info.log_bytes_dropped != 0) {
      logger.warn(cat("container ", info.id, ": ", info.log_bytes_dropped,
                      " bytes of its output could not be written to ", now->log_path));
    }
    tell(Event::Kind::kContainerStopped, entry.sandbox->value(), now);
  }
}

void Engine::Core::monitor_lost(const std::string& sandbox_id) {
  SandboxEntryPtr entry;
  {
    auto all = tables.lock();
    const auto found = all->sandboxes.find(sandbox_id);
    if (found == all->sandboxes.end()) return;
    entry = found->second;
  }
  if (entry->ending) {
    // The stop under way cleans up, or the next one, if that fails: the sandbox is not ready either
    // way.
    note_lost(*entry, kMonitorLost);
    return;
  }
  const std::scoped_lock verbs(entry->verbs);
  if (entry->value()->state != SandboxState::kReady) return;
  logger.error(cat("sandbox ", sandbox_id, ": its monitor is gone; ending what it left"));
  // Before its containers: whoever sees one end so must not find the sandbox ready.
  note_lost(*entry, kMonitorLost);
  log_if_failed(end_monitor(*entry), cat("sandbox ", sandbox_id));
  if (entry->value()->network_attached) detach_later(entry);
}

void Engine::Core::note_lost(SandboxEntry& entry, std::string_view reason) {
  const std::scoped_lock order(event_order);
  if (!next(entry.value()->state, SandboxEvent::kLost)) return;
  log_if_failed(entry.note(*store,
                           [&](Sandbox& sandbox) {
                             const auto after = next(sandbox.state, SandboxEvent::kLost);
                             sandbox.state = after.value_or(sandbox.state);
                             sandbox.reason = reason;
                             return true;
                           }),
                cat("sandbox ", entry.value()->id, ": state not recorded"));
  tell(Event::Kind::kSandboxStopped, entry.value());
}

}  // namespace fluyt::engine
