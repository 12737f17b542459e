#include "cmd/runtime/destroy.h"

#include <signal.h>

#include "runtime/container.h"
#include "runtime/hooks.h"
#include "sys/process.h"

namespace fluyt::commands {

namespace {

constexpr int64_t kPatienceMs = 10'000;

Result<> end_init(const Folder& folder, const Record& record) {
  // The pidfd first, then the question whose it is.
  auto process = sys::Process::open(record.pid);
  if (!process.ok() || FLUYT_TRY(status_of(folder, record)) == Status::kStopped) return {};
  return process->kill(SIGKILL);
}

void run_poststop(Invocation& call, const Record& record, const oci::Spec& spec) {
  if (!spec.hooks) return;
  oci::State state;
  state.id = record.id;
  state.status = "stopped";
  state.bundle = record.bundle;
  state.annotations = record.annotations;
  for (const std::string& failure : runtime::run_all_hooks(
           spec.hooks->poststop, "poststop", oci::to_json(state), {.cwd = record.bundle})) {
    call.log.warn(failure);
  }
}

}  // namespace

Result<> destroy_ended(Invocation& call, const Folder& folder, const Record& record,
                       const oci::Spec& spec) {
  FLUYT_TRY(runtime::end_cgroup(record.cgroup, Deadline::after_ms(kPatienceMs)));
  FLUYT_TRY(runtime::release(spec, record.id, record.rootfs, record.root_mount));
  FLUYT_TRY(folder.remove());
  run_poststop(call, record, spec);
  return {};
}

Result<> destroy(Invocation& call, const Folder& folder, const Record& record) {
  FLUYT_TRY(end_init(folder, record));
  auto spec = folder.load_config();
  if (spec.ok()) return destroy_ended(call, folder, record, *spec);
  FLUYT_TRY(runtime::end_cgroup(record.cgroup, Deadline::after_ms(kPatienceMs)));
  return folder.remove();
}

}  // namespace fluyt::commands
