#include <algorithm>
#include <optional>
#include <set>

#include "base/strings.h"
#include "engine/core.h"
#include "engine/root_names.h"
#include "engine/sandbox_files.h"
#include "engine/selinux.h"
#include "engine/stopping.h"
#include "sys/file.h"

/// What a start of the engine does with what an earlier one left. Nothing here stops the daemon but
/// records that are not to be had at all: what cannot be put in order is said in the log and tried
/// again at the next start.
namespace fluyt::engine {
namespace {

constexpr int64_t kCleanMs = 30'000;

void note_broken(Engine::Core& core, const BrokenRecord& record) {
  core.logger.error(
      cat("record of ", record.kind, " ", quote(record.id), " set aside: ", record.reason));
  core.broken.lock()->push_back(record);
}

/// Records into tables; a container without its sandbox is ended below.
void fill_tables(Engine::Core& core, Store::Loaded loaded, std::vector<Container>& strays) {
  auto tables = core.tables.lock();
  for (auto& sandbox : loaded.sandboxes) {
    core.sandbox_names.hold(sandbox.config.name, sandbox.id);
    const std::string id = sandbox.id;
    McsLevels::Hold level = hold_level(core.levels, sandbox.file_label);
    const auto entry = std::make_shared<SandboxEntry>(std::move(sandbox));
    entry->level = std::move(level);
    tables->sandboxes.emplace(id, entry);
  }
  for (auto& container : loaded.containers) {
    const auto sandbox = tables->sandboxes.find(container.sandbox_id);
    if (sandbox == tables->sandboxes.end()) {
      strays.push_back(std::move(container));
      continue;
    }
    core.container_names.hold({container.sandbox_id, container.config.name}, container.id);
    const std::string id = container.id;
    McsLevels::Hold level = hold_level(core.levels, container.file_label);
    const auto entry = std::make_shared<ContainerEntry>(std::move(container), sandbox->second);
    entry->level = std::move(level);
    tables->containers.emplace(id, entry);
  }
}

/// What happened to a sandbox's containers while we were away, as its monitor tells it: the ids of
/// those that it knows. Nothing when it could not be asked.
std::optional<std::set<std::string>> hear(Engine::Core& core, const std::string& sandbox_id,
                                          monitor::Client& client) {
  auto all = client.list();
  if (!all.ok()) {
    core.logger.warn(cat("sandbox ", sandbox_id, ": list: ", all.error().message()));
    return std::nullopt;
  }
  std::set<std::string> known;
  for (const auto& info : *all) {
    known.insert(info.id);
    core.container_told(info);
  }
  return known;
}

/// Of containers that a monitor knows nothing of: nobody will tell how they ended.
void note_unknown(Engine::Core& core, const std::string& sandbox_id,
                  const std::set<std::string>& known) {
  for (const auto& container : core.containers_of(sandbox_id)) {
    const ContainerPtr now = container->value();
    if (now->state == ContainerState::kCreating || known.contains(now->id)) continue;
    core.note_unseen_exit(*container, *now);
  }
}

}  // namespace

Result<> Engine::Core::adopt(SandboxEntry& entry) {
  const SandboxPtr sandbox = entry.value();
  const auto has_no_need = [&] {
    return entry.client() || entry.ending || entry.value()->state != SandboxState::kReady;
  };
  // Asked without the lock, too: whoever ends the sandbox has its verbs, which the lock's holder
  // may be waiting for.
  if (has_no_need()) return {};
  const std::scoped_lock one_at_a_time(entry.adopting);
  if (has_no_need()) return {};
  const std::string& id = sandbox->id;
  auto client = parts.hub->adopt(id, monitor_dir(id), events_for(id));
  if (!client.ok()) {
    // One that is alive and does not answer is no reason to end what it holds.
    if (client.error().code() != Code::kNotFound) return std::move(client).error();
    logger.warn(cat("sandbox ", id, ": ", client.error().message()));
    sandbox_lost(id, kMonitorLost);
    return std::move(client).error();
  }
  const auto known = hear(*this, id, **client);
  // What ended while nobody heard it would never be told.
  if (!known) return Error(Code::kDeadlineExceeded, "its monitor does not list its containers");
  // No create begins before there is a client: those that have were left half done by an earlier
  // run of ours, and what the monitor does not list it does not know.
  note_unknown(*this, id, *known);
  std::vector<ContainerEntryPtr> half_done = containers_of(id);
  std::erase_if(half_done, [](const auto& container) {
    return container->value()->state != ContainerState::kCreating;
  });
  entry.set_client(*client);
  const auto lacks = monitor::lacks_pod_init(monitor_dir(id));
  if (!lacks.ok()) logger.warn(cat("sandbox ", id, ": pod init: ", lacks.error().message()));
  if (lacks.ok() && *lacks) sandbox_lost(id, kPodInitEnded);
  for (const auto& container : half_done) {
    log_if_failed(undo_container(*container),
                  cat("container ", container->value()->id, ": half-done create"));
  }
  if (sandbox->own_container && !known->contains(id)) sandbox_lost(id, kSandboxContainerEnded);
  return {};
}

namespace {

/// At our start; where its monitor does not answer, behind it.
void begin_adopting(Engine::Core& core, const SandboxEntryPtr& entry) {
  const Result<> adopted = core.adopt(*entry);
  if (adopted.ok() || adopted.error().code() == Code::kNotFound) return;
  core.logger.warn(cat("sandbox ", entry->value()->id,
                       ": its monitor is asked again: ", adopted.error().message()));
  core.adopt_later(entry);
}

/// The machine was started anew: nothing that a record tells of runs any more. The sandbox stays,
/// for whoever asked for it to remove. Nothing is started again by itself.
void end_with_boot(Engine::Core& core, const SandboxEntryPtr& of) {
  SandboxEntry& entry = *of;
  const SandboxPtr sandbox = entry.value();
  core.logger.warn(cat("sandbox ", sandbox->id, " ended with the machine's restart"));
  core.log_if_failed(entry.note(*core.store,
                                [](Sandbox& value) {
                                  const auto after = next(value.state, SandboxEvent::kLost);
                                  if (!after) return false;
                                  value.state = *after;
                                  value.reason = "Rebooted";
                                  value.monitor_pid = 0;
                                  return true;
                                }),
                     cat("sandbox ", sandbox->id, ": state not recorded"));
  for (const auto& container : core.containers_of(sandbox->id)) {
    if (container->value()->state == ContainerState::kCreating) continue;
    core.log_if_failed(container->note(*core.store,
                                       [](Container& value) {
                                         const ContainerState before = value.state;
                                         value = lost_with_boot(value, now_unix_ns());
                                         return value.state != before;
                                       }),
                       cat("container ", container->value()->id, ": state not recorded"));
  }
  // Where the state folder is on a disk: by its own boot ids, so that no pid of this boot is hit.
  core.log_if_failed(core.end_monitor(entry), cat("sandbox ", sandbox->id));
  if (sandbox->network_attached) core.detach_later(of);
}

bool is_of_another_boot(const Engine::Core& core, const Sandbox& sandbox) {
  return !sandbox.boot_id.empty() && sandbox.boot_id != core.boot_id;
}

/// A stop that was half done, or a network that still is to be detached. The monitor may live.
void finish_stop(Engine::Core& core, const SandboxEntryPtr& of) {
  SandboxEntry& entry = *of;
  const SandboxPtr sandbox = entry.value();
  if (!sandbox->network_attached && !sys::exists(core.sandbox_dir(sandbox->id))) return;
  auto client = core.parts.hub->adopt(sandbox->id, core.monitor_dir(sandbox->id),
                                      core.events_for(sandbox->id));
  if (client.ok()) {
    entry.set_client(*client);
    // Its containers may have ended unheard: a stop would wait for news that were told before.
    if (const auto known = hear(core, sandbox->id, **client))
      note_unknown(core, sandbox->id, *known);
  }
  if (sandbox->network_attached) return core.detach_later(of);
  core.log_if_failed(core.stop(entry), cat("sandbox ", sandbox->id, ": half-done stop"));
}

/// A create that was half done: nobody was told of the sandbox.
void undo_create(Engine::Core& core, SandboxEntry& entry) {
  const SandboxPtr sandbox = entry.value();
  auto client = core.parts.hub->adopt(sandbox->id, core.monitor_dir(sandbox->id),
                                      core.events_for(sandbox->id));
  if (client.ok()) entry.set_client(*client);
  core.undo_or_show(entry);
}

/// Containers whose sandbox no record names. Where its record cannot be read, they may run.
void end_strays(Engine::Core& core, const std::vector<Container>& strays) {
  for (const auto& container : strays) {
    if (core.is_set_aside("sandbox", container.sandbox_id)) {
      note_broken(core, {"container", container.id,
                         cat("that of its sandbox ", container.sandbox_id, " was set aside"),
                         container.sandbox_id});
      continue;
    }
    core.log_if_failed(core.remove_roots(container),
                       cat("container ", container.id, " of no sandbox: root"));
    core.log_if_failed(core.store->erase_container(container.id),
                       cat("container ", container.id, " of no sandbox: record"));
  }
}

/// Folders and roots of ours that no record names. Those of a broken record stay: somebody is to
/// look.
void remove_orphans(Engine::Core& core) {
  const auto folders = sys::list_dir(core.options.state + "/sandboxes");
  for (const auto& id : folders.ok() ? *folders : std::vector<std::string>()) {
    if (core.knows_sandbox(id)) continue;
    core.logger.warn(cat("sandbox ", quote(id), " has no record: removing what it left"));
    const std::string dir = core.sandbox_dir(id);
    core.log_if_failed(monitor::clean_after(core.monitor_dir(id), Deadline::after_ms(kCleanMs)),
                       dir);
    core.log_if_failed(unmount_shm(dir), dir);
    core.log_if_failed(sys::remove_tree(dir), dir);
  }
  const auto roots = core.parts.images->list_roots();
  for (const auto& id : roots.ok() ? *roots : std::vector<std::string>()) {
    if (!core.knows_container(container_of_root(id))) {
      core.log_if_failed(core.parts.images->remove_root(id),
                         cat("root ", quote(id), " of no container"));
    }
  }
}

}  // namespace

Result<> Engine::Core::recover() {
  // An engine that lists nothing while pods run is worse than none: a kubelet would make each pod
  // a second time beside itself, and a collection would take what they stand on.
  auto loaded = FLUYT_TRY_CONTEXT(
      store->load(),
      cat(now()->root, "/engine.db: the records of pods and containers cannot be read"));
  for (const auto& record : loaded.broken) note_broken(*this, record);
  std::vector<Container> strays;
  fill_tables(*this, std::move(loaded), strays);
  for (const auto& entry : sandboxes()) {
    const bool elsewhere = is_of_another_boot(*this, *entry->value());
    if (!elsewhere && entry->value()->reason == kStopping)
      log_if_failed(note_stopped(*entry), cat("sandbox ", entry->value()->id));
    switch (entry->value()->state) {
      case SandboxState::kReady:
        elsewhere ? end_with_boot(*this, entry) : begin_adopting(*this, entry);
        break;
      case SandboxState::kNotReady:
        finish_stop(*this, entry);
        break;
      case SandboxState::kCreating:
        undo_create(*this, *entry);
        break;
    }
  }
  for (const auto& entry : containers()) {
    if (entry->value()->state != ContainerState::kCreating) continue;
    log_if_failed(undo_container(*entry),
                  cat("container ", entry->value()->id, ": half-done create"));
  }
  log_if_failed(sys::remove_tree(checkpoint_dir()), "half-done checkpoints");
  end_strays(*this, strays);
  remove_orphans(*this);
  for (const auto& entry : sandboxes()) end_with_containers_later(entry);
  collect_later();
  renew_monitors();
  return {};
}

}  // namespace fluyt::engine
