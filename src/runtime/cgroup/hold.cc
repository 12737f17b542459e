#include <signal.h>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/clone.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

Hold& Hold::operator=(Hold&& other) noexcept {
  if (this != &other) {
    release();
    sleeper_ = std::move(other.sleeper_);
  }
  return *this;
}

void Hold::release() {
  if (!sleeper_.valid()) return;
  sleeper_.kill(SIGKILL).ignore("it dies with us at the latest");
  sleeper_.wait(Deadline::after_ms(1000)).ignore("whoever inherits it reaps it");
  sleeper_ = {};
}

pid_t Hold::detach() {
  const pid_t pid = sleeper_.valid() ? sleeper_.pid() : 0;
  sleeper_ = {};
  return pid;
}

Result<Hold> hold(const CgroupRecord& record) {
  if (!record.unit) return Hold();
  Hold out(FLUYT_TRY(sys::make_sleeper()));
  // -1000: also where the kernel kills a whole cgroup (memory.oom.group), or else the count of the
  // kills would go with the cgroup.
  sys::write_file(sys::kCwd, cat("/proc/", out.pid(), "/oom_score_adj"), "-1000")
      .ignore("a host may not allow it: it holds until such a kill");
  FLUYT_TRY_CONTEXT(join(record, out.pid()), cat("hold ", record.unit->name));
  return out;
}

}  // namespace fluyt::runtime::cgroup
