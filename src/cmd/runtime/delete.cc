#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/destroy.h"
#include "cmd/runtime/store.h"

namespace fluyt::commands {

namespace {

Result<> remove_one(Invocation& call, const std::string& id, bool force) {
  auto opened = Folder::open(call.globals.root, id);
  if (!opened.ok() && force && opened.error().code() == Code::kNotFound) return {};
  Folder folder = FLUYT_TRY(std::move(opened));
  FLUYT_TRY(folder.lock());
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
