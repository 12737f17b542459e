#include "base/strings.h"
#include "engine/core.h"
#include "engine/spec_input.h"

namespace fluyt::engine {
namespace {

/// What is set in `change` over what was.
Resources over(Resources now, const Resources& change) {
  if (change.cpu_period != 0) now.cpu_period = change.cpu_period;
  if (change.cpu_quota != 0) now.cpu_quota = change.cpu_quota;
  if (change.cpu_shares != 0) now.cpu_shares = change.cpu_shares;
  if (change.memory_limit_bytes != 0) now.memory_limit_bytes = change.memory_limit_bytes;
  if (change.memory_swap_limit_bytes != 0) {
    now.memory_swap_limit_bytes = change.memory_swap_limit_bytes;
  }
  if (change.pids_limit != 0) now.pids_limit = change.pids_limit;
  if (!change.cpuset_cpus.empty()) now.cpuset_cpus = change.cpuset_cpus;
  if (!change.cpuset_mems.empty()) now.cpuset_mems = change.cpuset_mems;
  for (const auto& [size, limit] : change.hugepage_limits) now.hugepage_limits[size] = limit;
  for (const auto& [key, value] : change.unified) now.unified[key] = value;
  return now;
}

}  // namespace

Result<> Engine::update_container(const std::string& id, const Resources& resources) {
  const ContainerEntryPtr entry = FLUYT_TRY(core_->get_container(id));
  const std::scoped_lock verbs(entry->verbs);
  const ContainerPtr container = entry->value();
  const auto client = FLUYT_TRY(core_->find_client(*entry->sandbox));
  const bool alive =
      container->state == ContainerState::kCreated || container->state == ContainerState::kRunning;
  if (!alive || !client) {
    return Error(Code::kFailedPrecondition,
                 cat("container ", container->id, " is ", name_of(container->state),
                     ": expected created or running"));
  }
  const oci::Resources runtime =
      FLUYT_TRY(spec::resources_of(spec_resources(resources), *core_->spec_host));
  FLUYT_TRY_CONTEXT(client->update(container->id, oci::to_json(runtime)),
                    cat("container ", container->id));
  core_->log_if_failed(entry->note(*core_->store,
                                   [&](Container& now) {
                                     now.config.resources = over(now.config.resources, resources);
                                     return true;
                                   }),
                       cat("container ", container->id, ": resources not recorded"));
  return {};
}

}  // namespace fluyt::engine
