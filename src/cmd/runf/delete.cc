#include <signal.h>

#include "base/strings.h"
#include "cmd/runf/commands.h"
#include "cmd/runf/store.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/container.h"
#include "runtime/hooks.h"
#include "sys/process.h"

namespace fluyt::runf {

namespace {

constexpr int64_t kPatienceMs = 10'000;

Result<> end_init(const Record& record) {
  auto process = sys::Process::open(record.pid);
  if (!process.ok()) return {};
  return process->kill(SIGKILL);
}

Result<> take_away(Invocation& call, const Folder& folder, const Record& record) {
  const Deadline deadline = Deadline::after_ms(kPatienceMs);
  FLUYT_TRY(runtime::end_cgroup(record.cgroup, deadline));
  auto spec = folder.load_config();
  FLUYT_TRY(folder.remove());
  if (!spec.ok() || !spec->hooks || spec->hooks->poststop.empty()) return {};
  oci::State state;
  state.id = record.id;
  state.status = "stopped";
  state.bundle = record.bundle;
  state.annotations = record.annotations;
  auto hooked = runtime::run_hooks(spec->hooks->poststop, "poststop", oci::to_json(state));
  if (!hooked.ok()) call.log.warn(hooked.error().message());
  return {};
}

}  // namespace

Result<int> remove(Invocation& call) {
  bool force = false;
  const auto words =
      FLUYT_TRY(read_words(call, {{"force", 'f', &force, "kill it first if it runs"}},
                           "delete [options] CONTAINER", 1, 1));
  if (!words) return 0;
  auto opened = Folder::open(call.globals.root, (*words)[0]);
  if (!opened.ok() && force && opened.error().code() == Code::kNotFound) return 0;
  Folder folder = FLUYT_TRY(std::move(opened));
  FLUYT_TRY(folder.lock());
  auto record = folder.load();
  if (!record.ok()) {
    // Its creation was cut short: there is nothing that a record names.
    if (!force) return std::move(record).error();
    FLUYT_TRY(folder.remove());
    return 0;
  }
  const Status status = FLUYT_TRY(status_of(folder, *record));
  if (status != Status::kStopped && status != Status::kCreated && !force) {
    return Error(Code::kFailedPrecondition, cat("cannot delete container ", (*words)[0],
                                                " that is not stopped: ", status_name(status)));
  }
  if (status != Status::kStopped) FLUYT_TRY(end_init(*record));
  FLUYT_TRY(take_away(call, folder, *record));
  return 0;
}

}  // namespace fluyt::runf
