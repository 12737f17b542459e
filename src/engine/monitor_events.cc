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
  events.pod_init_ended = [weak, sandbox_id] {
    if (const auto core = weak.lock()) core->sandbox_told_lost(sandbox_id, kPodInitEnded);
  };
  events.lost = [weak, sandbox_id] {
    if (const auto core = weak.lock()) core->sandbox_told_lost(sandbox_id, kMonitorLost);
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
  const int64_t created_at = entry->value()->created_at;
  const bool of_the_record = info.created_at == 0 || info.created_at == created_at;
  if (entry->value()->state == ContainerState::kCreating || entry->made_again) {
    // The answer to its create, still to be recorded, is older. Of one that is made again, the
    // record is of the one before.
    const bool of_the_new = info.created_at == 0 || !of_the_record;
    if (info.state == monitor::ContainerState::kExited && of_the_new) entry->early_exit = info;
    return;
  }
  // Told late, of one that had the id before: made again, a container keeps it.
  if (!of_the_record) return;
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
    end_with_containers_later(entry.sandbox);
  }
}

SandboxEntryPtr Engine::Core::find_sandbox(const std::string& id) {
  auto all = tables.lock();
  const auto found = all->sandboxes.find(id);
  return found == all->sandboxes.end() ? nullptr : found->second;
}

bool Engine::Core::note_lost(SandboxEntry& entry, std::string_view reason) {
  const std::scoped_lock order(event_order);
  entry.lost = true;
  if (!next(entry.value()->state, SandboxEvent::kLost)) return false;
  logger.error(cat("sandbox ", entry.value()->id, " is lost (", reason, ")"));
  log_if_failed(entry.note(*store,
                           [&](Sandbox& sandbox) {
                             const auto after = next(sandbox.state, SandboxEvent::kLost);
                             sandbox.state = after.value_or(sandbox.state);
                             sandbox.reason = reason;
                             return true;
                           }),
                cat("sandbox ", entry.value()->id, ": state not recorded"));
  tell(Event::Kind::kSandboxStopped, entry.value());
  return true;
}

void Engine::Core::sandbox_lost(const std::string& sandbox_id, std::string_view reason) {
  const SandboxEntryPtr entry = find_sandbox(sandbox_id);
  if (!entry) return;
  note_lost(*entry, reason);
  end_lost(entry);
}

void Engine::Core::sandbox_told_lost(const std::string& sandbox_id, std::string_view reason) {
  const SandboxEntryPtr entry = find_sandbox(sandbox_id);
  // Once only. The ending reads the monitor's records, which may tell of it once more: while a
  // cgroup cannot be cleaned, it would have itself be done again without end.
  if (!entry || !note_lost(*entry, reason)) return;
  enders.post([weak = weak_from_this(), entry] {
    if (const auto alive = weak.lock()) alive->end_lost(entry);
  });
}

void Engine::Core::end_lost(const SandboxEntryPtr& entry) {
  // A stop under way cleans up, or the next one, if that fails.
  if (entry->ending) return;
  const std::scoped_lock verbs(entry->verbs);
  if (entry->ending || entry->value()->state != SandboxState::kNotReady) return;
  const std::string id = entry->value()->id;
  // Each with how it ended, which the monitor is asked for before it goes.
  if (const auto client = entry->client(); client && !client->lost())
    log_if_failed(kill_containers(id), cat("sandbox ", id));
  log_if_failed(end_monitor(*entry), cat("sandbox ", id));
  if (entry->value()->network_attached) detach_later(entry);
}

}  // namespace fluyt::engine
