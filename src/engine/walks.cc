#include "base/strings.h"
#include "base/trace.h"
#include "engine/core.h"

namespace fluyt::engine {

Result<std::vector<trace::Walk>> Engine::walks_of(const std::string& id) {
  const auto sandbox = core_->get_sandbox(id);
  if (sandbox.ok()) return core_->traces.walks_of((*sandbox)->value()->id, {});
  const auto container = core_->get_container(id);
  if (container.ok()) {
    const ContainerPtr found = (*container)->value();
    return core_->traces.walks_of(found->sandbox_id, found->id);
  }
  auto gone = core_->traces.walks_of(id, {});
  if (!gone.empty()) return gone;
  return Error(Code::kNotFound, cat("id: ", quote(id),
                                    ": expected a sandbox or container, or the whole id of a "
                                    "sandbox that was removed not long ago"));
}

}  // namespace fluyt::engine
