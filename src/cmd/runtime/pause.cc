#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/store.h"

namespace fluyt::commands {

Result<int> pause(Invocation& call) {
  const auto words = FLUYT_TRY(read_words(call, {}, "pause CONTAINER", 1, 1));
  if (!words) return 0;
  Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  FLUYT_TRY(folder.lock());
  const Record record = FLUYT_TRY(folder.load());
  const Status status = FLUYT_TRY(status_of(folder, record));
  if (status != Status::kRunning && status != Status::kCreated) {
    return Error(Code::kFailedPrecondition,
                 cat("container not running or created: ", status_name(status)));
  }
  FLUYT_TRY(call.launcher.pause(folder, record.cgroup));
  return 0;
}

Result<int> resume(Invocation& call) {
  const auto words = FLUYT_TRY(read_words(call, {}, "resume CONTAINER", 1, 1));
  if (!words) return 0;
  Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  FLUYT_TRY(folder.lock());
  const Record record = FLUYT_TRY(folder.load());
  if (FLUYT_TRY(status_of(folder, record)) != Status::kPaused) {
    return Error(Code::kFailedPrecondition, "container not paused");
  }
  FLUYT_TRY(call.launcher.resume(folder, record.cgroup));
  return 0;
}

}  // namespace fluyt::commands
