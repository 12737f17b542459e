#include <cerrno>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/files.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

Error no_freezer() {
  return Error(Code::kFailedPrecondition,
               "freeze: this host has neither cgroup v2 nor the v1 freezer");
}

Error not_frozen(const std::string& directory) {
  return Error(Code::kDeadlineExceeded,
               cat("freeze: ", quote(directory, 1024), ": processes still run at the deadline"));
}

Result<> freeze_unified(const CgroupRecord& record, Deadline deadline) {
  FLUYT_TRY(sys::write_file(sys::kCwd, cat(record.unified, "/cgroup.freeze"), "1"));
  if (FLUYT_TRY(wait_event(record.unified, "frozen", true, deadline))) return {};
  FLUYT_TRY(thaw(record));
  return not_frozen(record.unified);
}

Result<> freeze_legacy(const CgroupRecord& record, const std::string& directory,
                       Deadline deadline) {
  const bool still = FLUYT_TRY(retry(deadline, [&]() -> Result<bool> {
    // Written anew each time: the kernel gives up on tasks that forked meanwhile.
    FLUYT_TRY(sys::write_file(sys::kCwd, cat(directory, "/freezer.state"), "FROZEN"));
    return trim(FLUYT_TRY(read_value(directory, "freezer.state"))) == "FROZEN";
  }));
  if (still) return {};
  FLUYT_TRY(thaw(record));
  return not_frozen(directory);
}

}  // namespace

Result<> freeze(const CgroupRecord& record, Deadline deadline) {
  if (!record.unified.empty()) return freeze_unified(record, deadline);
  const std::string* directory = find_legacy(record, "freezer");
  if (directory == nullptr) return no_freezer();
  return freeze_legacy(record, *directory, deadline);
}

Result<> thaw(const CgroupRecord& record) {
  const std::string* legacy = find_legacy(record, "freezer");
  if (record.unified.empty() && legacy == nullptr) return no_freezer();
  // Both, where there are both: whoever froze it, it runs again.
  if (legacy != nullptr)
    FLUYT_TRY(sys::write_file(sys::kCwd, cat(*legacy, "/freezer.state"), "THAWED"));
  if (!record.unified.empty())
    FLUYT_TRY(sys::write_file(sys::kCwd, cat(record.unified, "/cgroup.freeze"), "0"));
  return {};
}

Result<bool> frozen(const CgroupRecord& record) {
  if (!record.unified.empty()) {
    auto events = read_value(record.unified, "cgroup.events");
    // Gone: the container moved itself elsewhere, and nothing of ours holds it.
    if (!events.ok() && events.error().code() == Code::kNotFound) return false;
    if (FLUYT_TRY(event_flag(FLUYT_TRY(std::move(events)), "frozen"))) return true;
  }
  const std::string* legacy = find_legacy(record, "freezer");
  // Nothing of ours could have frozen it.
  if (legacy == nullptr) return false;
  return trim(FLUYT_TRY(read_value(*legacy, "freezer.state"))) != "THAWED";
}

}  // namespace fluyt::runtime::cgroup
