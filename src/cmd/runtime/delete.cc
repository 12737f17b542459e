#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/destroy.h"
#include "cmd/runtime/store.h"

namespace fluyt::commands {

namespace {

// Another command may be at work on it and wait for the container: for its hooks, for its memory to
// be written. Its end is the end of that.
Result<> lock_by_force(Folder& folder) {
  auto locked = folder.lock(Deadline::after_ms(0));
  if (locked.ok() || locked.error().code() != Code::kDeadlineExceeded) return locked;
  auto record = folder.load();
  if (!record.ok()) {
    if (auto unfinished = folder.find_unfinished()) record = std::move(*unfinished);
  }
  if (record.ok()) FLUYT_TRY(end_init(folder, *record));
  return folder.lock();
}

Result<> remove_named(Invocation& call, const std::string& id, bool force) {
  Folder folder = FLUYT_TRY(Folder::open(call.globals.root, id));
  FLUYT_TRY(force ? lock_by_force(folder) : folder.lock());
  auto record = folder.load();
  if (!record.ok()) {
    if (!force) return std::move(record).error();
    const auto unfinished = folder.find_unfinished();
    return unfinished ? destroy(call, folder, *unfinished) : folder.remove();
  }
  const Status status = FLUYT_TRY(status_of(folder, *record));
  if (status != Status::kStopped && status != Status::kCreated && !force) {
    return Error(Code::kFailedPrecondition, cat("cannot delete container ", id,
                                                " that is not stopped: ", status_name(status)));
  }
  return destroy(call, folder, *record);
}

Result<> remove_one(Invocation& call, const std::string& id, bool force) {
  auto removed = remove_named(call, id, force);
  if (!removed.ok() && force && removed.error().code() == Code::kNotFound) return {};
  return removed;
}

}  // namespace

Result<int> remove(Invocation& call) {
  bool force = false;
  bool regex = false;
  const auto words = FLUYT_TRY(read_words(
      call,
      {{"force", 'f', &force, "kill it first if it runs"},
       {"regex", 'r', &regex, "CONTAINER is a regular expression: every one it matches"}},
      "delete [options] CONTAINER", 1, 1));
  if (!words) return 0;
  if (!regex) {
    FLUYT_TRY(remove_one(call, (*words)[0], force));
    return 0;
  }
  for (const std::string& id : FLUYT_TRY(matching_ids(call.globals.root, (*words)[0]))) {
    auto removed = remove_one(call, id, force);
    if (!removed.ok()) call.log.warn(cat(id, ": ", removed.error().message()));
  }
  return 0;
}

}  // namespace fluyt::commands
