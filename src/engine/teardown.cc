#include <algorithm>
#include <thread>

#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"
#include "engine/mend_log.h"
#include "engine/root_names.h"
#include "engine/sandbox_files.h"
#include "engine/stopping.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

constexpr int64_t kKillMs = 10'000;
constexpr int64_t kSoonMs = 1'000;
constexpr int64_t kShutdownMs = 30'000;
constexpr int64_t kMendMs = 300;
constexpr int64_t kDetachMs = 30'000;
constexpr int kSigkill = 9;

bool has_ended(const Container& container) {
  return container.state == ContainerState::kExited || container.state == ContainerState::kCreating;
}

}  // namespace

bool is_same_making(const Container& one, const Container& other) {
  return one.created_at == other.created_at;
}

bool Engine::Core::wait_exit(ContainerEntry& entry, const Container& of, Deadline deadline) {
  constexpr int64_t kLookMs = 100;
  const auto is_over = [&](const Container& now) {
    return has_ended(now) || !is_same_making(now, of);
  };
  while (true) {
    const bool last = deadline.passed();
    const auto client = entry.sandbox->client();
    const bool over = is_over(*entry.wait(is_over, Deadline::after_ms(last ? 0 : kLookMs)));
    if (over || last || !client || client->lost()) return over;
  }
}

// An exit that was told while nobody heard it is not told again.
void Engine::Core::ask_exit(ContainerEntry& entry, monitor::Client& client) {
  const ContainerPtr of = entry.value();
  const auto all = client.list();
  if (!all.ok()) return logger.warn(cat("container ", of->id, ": list: ", all.error().message()));
  const auto at =
      std::find_if(all->begin(), all->end(), [&](const auto& info) { return info.id == of->id; });
  at == all->end() ? note_unseen_exit(entry, *of) : container_told(*at);
}

void Engine::Core::note_unseen_exit(ContainerEntry& entry, const Container& of) {
  const std::scoped_lock order(event_order);
  if (!is_same_making(*entry.value(), of)) return;
  const ContainerState before = entry.value()->state;
  const Result<> noted = entry.note(*store, [&](Container& now) {
    now = lost(now, now_unix_ns());
    return now.state != before;
  });
  log_if_failed(noted, cat("container ", entry.value()->id, ": state not recorded"));
  if (entry.value()->state == before) return;
  tell(Event::Kind::kContainerStopped, entry.sandbox->value(), entry.value());
  end_with_containers_later(entry.sandbox);
}

// Of a sandbox that is lost already.
Result<> Engine::Core::end_without_monitor(ContainerEntry& entry, By whom) {
  if (whom == By::kStop) return {};
  const std::scoped_lock verbs(entry.sandbox->verbs);
  if (has_ended(*entry.value())) return {};
  return end_monitor(*entry.sandbox);
}

Result<> Engine::Core::kill(ContainerEntry& entry, By whom) {
  const auto client = entry.sandbox->client();
  const ContainerPtr of = entry.value();
  if (has_ended(*of)) return {};
  if (!client) {
    // Of a ready sandbox whose monitor stands still and could not be adopted: done without it.
    const SandboxPtr sandbox = entry.sandbox->value();
    if (whom == By::kOther && sandbox->state == SandboxState::kReady && !entry.sandbox->ending)
      sandbox_lost(sandbox->id, kMonitorLost);
    return has_ended(*entry.value()) ? Result<>() : end_without_monitor(entry, whom);
  }
  FLUYT_TRY(client->signal(of->id, kSigkill, true));
  if (wait_exit(entry, *of, Deadline::after_ms(kSoonMs))) return {};
  ask_exit(entry, *client);
  if (wait_exit(entry, *of, Deadline::after_ms(kKillMs - kSoonMs))) return {};
  if (client->lost()) {
    // Who ends the sandbox notes the exit too, with what was left on record.
    if (whom == By::kOther) sandbox_lost(entry.sandbox->value()->id, kMonitorLost);
    return has_ended(*entry.value()) ? Result<>() : end_without_monitor(entry, whom);
  }
  return Error(Code::kDeadlineExceeded,
               cat("container ", of->id, " still runs ", kKillMs / 1000, " s after SIGKILL"));
}

Result<> Engine::Core::kill_containers(const std::string& sandbox_id) {
  const trace::Span span("containers");
  std::vector<ContainerEntryPtr> running = containers_of(sandbox_id);
  std::erase_if(running, [](const auto& entry) { return has_ended(*entry->value()); });
  std::vector<Result<>> killed(running.size());
  // At once: what does not end in one must not take the others' time.
  std::vector<std::thread> threads;
  for (size_t i = 1; i < running.size(); ++i)
    threads.emplace_back([&, i] { killed[i] = kill(*running[i], By::kStop); });
  if (!running.empty()) killed[0] = kill(*running[0], By::kStop);
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < running.size(); ++i)
    FLUYT_TRY_CONTEXT(std::move(killed[i]), cat("container ", running[i]->value()->id));
  return {};
}

Result<> Engine::Core::detach_network(SandboxEntry& entry) {
  const SandboxPtr sandbox = entry.value();
  if (!sandbox->network_attached) return {};
  const trace::Span span("network");
  FLUYT_TRY(parts.network->detach(network_of(*sandbox), Deadline::after_ms(kDetachMs)));
  // It is detached whatever the disk says: a DEL too many does no harm, a stop that fails does.
  log_if_failed(entry.note(*store,
                           [](Sandbox& now) {
                             now.network_attached = false;
                             return true;
                           }),
                cat("sandbox ", sandbox->id, ": state not recorded"));
  return {};
}

Result<> Engine::Core::end_monitor(SandboxEntry& entry) {
  const trace::Span span("monitor");
  const SandboxPtr sandbox = entry.value();
  const std::string dir = sandbox_dir(sandbox->id);
  // What a monitor that died left to be seen, before it is swept away: a client that has lost it
  // does so when it is to end it.
  auto records = monitor::read_records(monitor_dir(sandbox->id));
  if (records.ok()) {
    for (const auto& info : *records) container_told(info);
  }
  if (const auto client = entry.client()) {
    const Result<> ended = client->shutdown(Deadline::after_ms(kShutdownMs));
    log_if_failed(ended, cat("sandbox ", sandbox->id, ": monitor does not end, ending it"));
  }
  FLUYT_TRY(monitor::clean_after(monitor_dir(sandbox->id), Deadline::after_ms(kShutdownMs)));
  entry.set_client(nullptr);
  execs.end_all(sandbox->id, 137);
  for (const auto& container : containers_of(sandbox->id)) {
    // Whoever wrote its log may have been killed within a line.
    if (const ContainerPtr now = container->value(); !has_ended(*now) && !now->log_path.empty()) {
      log_if_failed(mend_log_soon(sandbox->config.log_directory, now->config.log_path, kMendMs),
                    cat("container ", now->id, ": log"));
    }
    note_unseen_exit(*container, *container->value());
  }
  FLUYT_TRY(unmount_shm(dir));
  return sys::remove_tree(dir);
}

Result<> Engine::Core::note_stopped(SandboxEntry& entry) {
  if (entry.value()->state != SandboxState::kReady) return {};
  return change_and_tell(entry, Event::Kind::kSandboxStopped, [&]() -> Result<> {
    log_if_failed(entry.note(*store,
                             [](Sandbox& sandbox) {
                               const auto after = next(sandbox.state, SandboxEvent::kStopped);
                               sandbox.state = after.value_or(sandbox.state);
                               if (sandbox.reason == kStopping) sandbox.reason.clear();
                               return true;
                             }),
                  cat("sandbox ", entry.value()->id, ": state not recorded"));
    return {};
  });
}

namespace {

// On record before the world is changed.
void note_stopping(Engine::Core& core, SandboxEntry& entry) {
  core.log_if_failed(entry.note(*core.store,
                                [](Sandbox& sandbox) {
                                  if (sandbox.state != SandboxState::kReady) return false;
                                  sandbox.reason = kStopping;
                                  return true;
                                }),
                     cat("sandbox ", entry.value()->id, ": state not recorded"));
}

}  // namespace

Result<> Engine::Core::stop(SandboxEntry& entry) {
  entry.ending = true;
  const auto client = entry.client();
  Result<> killed = kill_containers(entry.value()->id);
  if (client && client->lost()) note_lost(entry, kMonitorLost);
  FLUYT_TRY(std::move(killed));
  note_stopping(*this, entry);
  // Before the namespace goes: a plugin's DEL wants to look into it.
  if (auto detached = detach_network(entry); !detached.ok()) {
    // Nothing runs in it any more; its namespace stays for the DEL that is owed, if somebody still
    // holds the sandbox together.
    if (!client || client->lost())
      log_if_failed(end_monitor(entry), cat("sandbox ", entry.value()->id));
    FLUYT_TRY(note_stopped(entry));
    return std::move(detached).error().add_context(
        "its network is still to be detached, by the next stop, remove or start of fluytd");
  }
  FLUYT_TRY(end_monitor(entry));
  return note_stopped(entry);
}

Result<> Engine::Core::undo_sandbox(SandboxEntry& entry) {
  FLUYT_TRY(stop(entry));
  forget_sandbox(*entry.value());
  return {};
}

void Engine::Core::undo_or_show(SandboxEntry& entry) {
  const Result<> undone = undo_sandbox(entry);
  if (undone.ok()) return;
  const std::string id = entry.value()->id;
  logger.error(cat("sandbox ", id, " could not be undone: ", undone.error().message()));
  log_if_failed(entry.note(*store,
                           [&](Sandbox& now) {
                             const auto after = next(now.state, SandboxEvent::kNotUndone);
                             now.state = after.value_or(now.state);
                             now.reason = undone.error().message();
                             return true;
                           }),
                cat("sandbox ", id, ": state not recorded"));
}

Result<> Engine::Core::remove_roots(const Container& container) {
  FLUYT_TRY(parts.images->remove_root(container.id));
  for (size_t i = 0; i < container.config.mounts.size(); ++i) {
    if (container.config.mounts[i].image.empty()) continue;
    FLUYT_TRY(parts.images->remove_root(image_volume_holder(container.id, i)));
  }
  return {};
}

Result<> Engine::Core::undo_container(ContainerEntry& entry) {
  const ContainerPtr container = entry.value();
  if (const auto client = FLUYT_TRY(find_client(*entry.sandbox))) {
    FLUYT_TRY(client->remove(container->id, Deadline::after_ms(kShutdownMs)));
  }
  FLUYT_TRY(remove_roots(*container));
  FLUYT_TRY(sys::remove_tree(bundle_dir(container->sandbox_id, container->id)));
  const std::scoped_lock order(event_order);
  forget_container(*container);
  // One that was never made was never told of either.
  if (container->state != ContainerState::kCreating) {
    tell(Event::Kind::kContainerRemoved, entry.sandbox->value(), container);
  }
  return {};
}

void Engine::Core::forget_sandbox(const Sandbox& sandbox) {
  log_if_failed(store->erase_sandbox(sandbox.id),
                cat("sandbox ", sandbox.id, ": record not erased"));
  tables.lock()->sandboxes.erase(sandbox.id);
  cpu_rates.forget(sandbox.id);
  sandbox_names.release(sandbox.config.name, sandbox.id);
}

void Engine::Core::forget_container(const Container& container) {
  log_if_failed(store->erase_container(container.id),
                cat("container ", container.id, ": record not erased"));
  tables.lock()->containers.erase(container.id);
  cpu_rates.forget(container.id);
  layer_usage.forget(container.id);
  container_names.release({container.sandbox_id, container.config.name}, container.id);
}

}  // namespace fluyt::engine
