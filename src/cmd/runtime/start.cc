#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/destroy.h"
#include "cmd/runtime/notify.h"
#include "cmd/runtime/store.h"
#include "runtime/hooks.h"

namespace fluyt::commands {

namespace {

// The hooks of startContainer and poststart take their time, without the lock: whoever wants to
// pause or to delete the container need not wait for them.
Result<> finish_start(const Folder& folder, const Record& record, sys::FdRef report) {
  FLUYT_TRY(Folder::wait_executed(report));
  if (!folder.is_named())
    return Error(Code::kFailedPrecondition, "the container was deleted while it was started");
  const oci::Spec spec = FLUYT_TRY(folder.load_config());
  if (!spec.hooks) return {};
  oci::State state;
  state.id = record.id;
  state.status = "running";
  state.pid = record.pid;
  state.bundle = record.bundle;
  state.annotations = record.annotations;
  return runtime::run_hooks(spec.hooks->poststart, "poststart", oci::to_json(state),
                            {.cwd = record.bundle});
}

/// What is left to do without the folder's lock, which a container that never gets ready must not
/// hold.
struct Begun {
  std::optional<NotifyRelay> notify;
  std::optional<sys::Process> process;  // beside `notify`
};

Result<Begun> begin(Invocation& call, const std::string& id) {
  Folder folder = FLUYT_TRY(Folder::open(call.globals.root, id));
  FLUYT_TRY(folder.lock());
  const Record record = FLUYT_TRY(folder.load());
  switch (FLUYT_TRY(status_of(folder, record))) {
    case Status::kCreated:
      break;
    case Status::kStopped:
      return Error(Code::kFailedPrecondition, "cannot start a container that has stopped");
    case Status::kCreating:
    case Status::kRunning:
    case Status::kPaused:
      return Error(Code::kFailedPrecondition, "cannot start an already running container");
  }
  Begun begun;
  if (auto manager = FLUYT_TRY(NotifyRelay::manager()))
    begun.notify = FLUYT_TRY(NotifyRelay::open(folder, std::move(*manager)));
  if (begun.notify) begun.process = FLUYT_TRY(sys::Process::open(record.pid));
  const sys::Fd report = FLUYT_TRY(folder.open_gate());
  folder.unlock();
  auto started = finish_start(folder, record, report);
  if (started.ok()) return begun;
  // A hook that fails ends the container; a program that could not be executed has ended it itself.
  if (started.error().message().starts_with("error running ")) {
    auto destroyed = folder.lock();
    if (destroyed.ok()) destroyed = destroy(call, folder, record);
    if (!destroyed.ok() && destroyed.error().code() != Code::kNotFound)
      call.log.warn(destroyed.error().message());
  }
  return std::move(started).error();
}

}  // namespace

Result<int> start(Invocation& call) {
  const auto words = FLUYT_TRY(read_words(call, {}, "start CONTAINER", 1, 1));
  if (!words) return 0;
  Begun begun = FLUYT_TRY(begin(call, (*words)[0]));
  if (begun.notify) FLUYT_TRY(begun.notify->pass_until_ready(*begun.process));
  return 0;
}

}  // namespace fluyt::commands
