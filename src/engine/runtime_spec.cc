#include "oci/runtime_spec.h"

#include "base/strings.h"
#include "engine/core.h"

namespace fluyt::engine {

Result<std::string> Engine::runtime_spec(const std::string& id) {
  const ContainerPtr container = FLUYT_TRY(core_->get_container(id))->value();
  const std::string& sandbox_id = container->sandbox_id;
  const std::string text = FLUYT_TRY_CONTEXT(
      monitor::read_spec(core_->monitor_dir(sandbox_id), core_->bundle_dir(sandbox_id, id), id),
      cat("container ", id, ": specification"));
  auto spec = oci::parse_spec(text);
  if (!spec.ok()) return std::move(spec).error();
  // What is on disk for the runtime is without the secrets of the environment.
  spec->process = FLUYT_TRY(oci::parse_process(container->process_json));
  return oci::to_json(*spec);
}

}  // namespace fluyt::engine
