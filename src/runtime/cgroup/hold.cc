#include <signal.h>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/clone.h"

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

Result<Hold> hold(const CgroupRecord& record) {
  if (!record.unit) return Hold();
  Hold out(FLUYT_TRY(sys::make_sleeper()));
  FLUYT_TRY_CONTEXT(join(record, out.pid()), cat("hold ", record.unit->name));
  return out;
}

}  // namespace fluyt::runtime::cgroup
