#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/store.h"
#include "sys/file.h"

namespace fluyt::commands {

Result<int> state(Invocation& call) {
  const auto words = FLUYT_TRY(read_words(call, {}, "state CONTAINER", 1, 1));
  if (!words) return 0;
  const Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  const Record record = FLUYT_TRY(folder.load());
  const Status status = FLUYT_TRY(status_of(folder, record));
  nlohmann::ordered_json out;
  out["ociVersion"] = oci::Spec().oci_version;
  out["id"] = record.id;
  out["pid"] = status == Status::kStopped ? 0 : record.pid;
  out["status"] = status_name(status);
  out["bundle"] = record.bundle;
  out["rootfs"] = record.rootfs;
  out["created"] = record.created;
  if (!record.annotations.empty()) out["annotations"] = record.annotations;
  out["owner"] = record.owner == 0 ? "" : std::to_string(record.owner);
  FLUYT_TRY(sys::write_all(sys::FdRef(STDOUT_FILENO), out.dump(2) + "\n"));
  return 0;
}

}  // namespace fluyt::commands
