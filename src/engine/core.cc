#include "engine/core.h"

#include <algorithm>

#include "base/strings.h"

namespace fluyt::engine {

sys::IdMaps id_maps(const std::optional<UserIds>& users) {
  if (!users) return {};
  const auto range = [](const IdMap& map) {
    return std::vector<sys::IdRange>{{map.container_id, map.host_id, map.length}};
  };
  return {range(users->uids), range(users->gids)};
}

namespace {

/// The entry with the id `id`, else the only one whose id begins with it.
template <class EntryPtr>
Result<EntryPtr> look_up(const std::map<std::string, EntryPtr>& table, const std::string& id,
                         std::string_view kind) {
  if (id.empty()) return Error(Code::kInvalidArgument, cat(kind, " id: \"\": expected an id"));
  const auto visible = [](const EntryPtr& entry) {
    using State = decltype(entry->value()->state);
    return entry->value()->state != State::kCreating;
  };
  EntryPtr found;
  for (auto place = table.lower_bound(id); place != table.end() && place->first.starts_with(id);
       ++place) {
    if (!visible(place->second)) continue;
    if (place->first.size() == id.size()) return place->second;
    if (found) {
      return Error(Code::kInvalidArgument,
                   cat(kind, " id: ", quote(id), ": several begin so, such as ", found->value()->id,
                       " and ", place->first));
    }
    found = place->second;
  }
  if (!found) return Error(Code::kNotFound, cat("no ", kind, " has the id ", quote(id)));
  return found;
}

template <class EntryPtr>
std::vector<EntryPtr> all_of(const std::map<std::string, EntryPtr>& table) {
  std::vector<EntryPtr> entries;
  entries.reserve(table.size());
  for (const auto& [id, entry] : table) entries.push_back(entry);
  return entries;
}

}  // namespace

Options Engine::Core::fixed_of(const Options& options) {
  return {.root = options.root,
          .state = options.state,
          .logs = options.logs,
          .monitor_program = {},
          .pod_init_program = {},
          .cgroup_driver = options.cgroup_driver,
          .default_cgroup_parent = {},
          .cdi_dirs = {},
          .monitor_cgroup_parent = {},
          .handlers = {},
          .default_handler = {}};
}

Result<SandboxEntryPtr> Engine::Core::get_sandbox(const std::string& id) {
  return look_up(tables.lock()->sandboxes, id, "sandbox");
}

Result<ContainerEntryPtr> Engine::Core::get_container(const std::string& id) {
  return look_up(tables.lock()->containers, id, "container");
}

std::vector<SandboxEntryPtr> Engine::Core::sandboxes() { return all_of(tables.lock()->sandboxes); }

std::vector<ContainerEntryPtr> Engine::Core::containers() {
  return all_of(tables.lock()->containers);
}

std::vector<ContainerEntryPtr> Engine::Core::containers_of(const std::string& sandbox_id) {
  std::vector<ContainerEntryPtr> entries = containers();
  std::erase_if(entries,
                [&](const auto& entry) { return entry->value()->sandbox_id != sandbox_id; });
  return entries;
}

Result<std::shared_ptr<monitor::Client>> Engine::Core::find_client(const SandboxEntry& entry) {
  auto client = entry.client();
  const SandboxPtr sandbox = entry.value();
  if (client || entry.ending || sandbox->state != SandboxState::kReady) return client;
  return Error(Code::kUnavailable,
               cat("sandbox ", sandbox->id, ": its monitor does not answer: it is asked again"));
}

bool Engine::Core::is_set_aside(std::string_view kind, const std::string& id) {
  auto records = broken.lock();
  return std::any_of(records->begin(), records->end(), [&](const BrokenRecord& record) {
    return record.kind == kind && record.id == id;
  });
}

// What a broken record is about stays, and may run: somebody is to look at it.
bool Engine::Core::knows_sandbox(const std::string& id) {
  return tables.lock()->sandboxes.contains(id) || is_set_aside("sandbox", id);
}

bool Engine::Core::knows_container(const std::string& id) {
  return tables.lock()->containers.contains(id) || is_set_aside("container", id);
}

void Engine::Core::tell(Event::Kind kind, SandboxPtr sandbox, ContainerPtr container) {
  if (handlers.lock()->empty()) return;
  Event event{.kind = kind,
              .time = now_unix_ns(),
              .sandbox = std::move(sandbox),
              .container = std::move(container),
              .containers = {},
              .image = {}};
  for (const auto& entry : containers_of(event.sandbox->id)) {
    ContainerPtr value = entry->value();
    if (value->state != ContainerState::kCreating) event.containers.push_back(std::move(value));
  }
  tell(event);
}

void Engine::Core::tell_image(Event::Kind kind, const std::string& id) {
  const std::scoped_lock order(event_order);
  tell(Event{.kind = kind,
             .time = now_unix_ns(),
             .sandbox = {},
             .container = {},
             .containers = {},
             .image = id});
}

Result<> Engine::Core::change_and_tell(SandboxEntry& entry, Event::Kind kind,
                                       const std::function<Result<>()>& change) {
  const std::scoped_lock order(event_order);
  FLUYT_TRY(change());
  tell(kind, entry.value());
  return {};
}

void Engine::Core::tell(const Event& event) {
  std::vector<std::shared_ptr<Handler>> listeners;  // called without the lock of their list
  {
    auto all = handlers.lock();
    std::erase_if(*all, [](const auto& handler) { return handler.expired(); });
    for (const auto& handler : *all) {
      if (auto alive = handler.lock()) listeners.push_back(std::move(alive));
    }
  }
  for (const auto& listener : listeners) {
    const std::scoped_lock lock(listener->mutex);
    if (listener->function) listener->function(event);
  }
}

void Engine::Core::log_if_failed(const Result<>& result, std::string_view what) {
  if (!result.ok()) logger.warn(cat(what, ": ", result.error().message()));
}

}  // namespace fluyt::engine
