#include "engine/exec_process.h"

#include "base/strings.h"
#include "engine/spec_input.h"
#include "oci/runtime_spec.h"
#include "spec/user.h"

namespace fluyt::engine {

Result<std::string> exec_process_json(Engine::Core& core, const Container& container,
                                      const ExecOptions& options) {
  oci::Spec spec;
  spec.process = FLUYT_TRY(oci::parse_process(container.process_json));
  oci::Process process = FLUYT_TRY(spec::exec_process(spec, options.args, options.terminal));
  for (const auto& env : options.envs) {
    const std::string name = env.name + "=";
    std::erase_if(process.env, [&](const std::string& old) { return old.starts_with(name); });
    process.env.push_back(name + env.value);
  }
  if (!options.cwd.empty()) process.cwd = options.cwd;
  if (!options.user.empty()) {
    const auto files = FLUYT_TRY(read_user_files(core, container.image_id));
    const auto identity = FLUYT_TRY_CONTEXT(spec::resolve_user(options.user, files), "user");
    process.user.uid = identity.uid;
    process.user.gid = identity.gid;
    process.user.additional_gids = identity.groups;
  }
  return oci::to_json(process);
}

}  // namespace fluyt::engine
