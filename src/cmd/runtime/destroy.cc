#include "cmd/runtime/destroy.h"

#include <poll.h>
#include <signal.h>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/container.h"
#include "runtime/hooks.h"
#include "sys/process.h"

namespace fluyt::commands {

namespace {

constexpr int64_t kPatienceMs = 10'000;

enum class Init { kEndedBefore, kLivedTillNow };

Result<> wait_ended(const sys::Process& process, Deadline deadline) {
  pollfd entry{.fd = process.pidfd().raw(), .events = POLLIN, .revents = 0};
  while (true) {
    const int ready = poll(&entry, 1, deadline.poll_timeout_ms());
    if (ready > 0) return {};
    if (ready == 0) {
      return Error(Code::kDeadlineExceeded,
                   cat("the container's first process ", process.pid(), " does not end"));
    }
    if (errno != EINTR) return Error::from_errno(errno, "poll(pidfd)");
  }
}

Result<Init> end_first(const Folder& folder, const Record& record) {
  // The pidfd first, then the question whose it is.
  auto process = sys::Process::open(record.pid);
  if (!process.ok()) return Init::kEndedBefore;
  const Status status = FLUYT_TRY(status_of(folder, record));
  if (status == Status::kStopped) return Init::kEndedBefore;
  FLUYT_TRY(process->kill(SIGKILL));
  // On v1 a frozen process dies only once it thaws.
  if (status == Status::kPaused)
    runtime::cgroup::thaw(record.cgroup).ignore("the wait below tells");
  FLUYT_TRY(wait_ended(*process, Deadline::after_ms(kPatienceMs)));
  return Init::kLivedTillNow;
}

// Nothing of the container's runs: whoever is in its cgroup is somebody else's.
Result<> leave_cgroup(Invocation& call, const runtime::CgroupRecord& cgroup) {
  constexpr int64_t kLastOnesMs = 2000;  // the kernel may still be about the end of some
  auto removed = runtime::remove_cgroup(cgroup, Deadline::after_ms(kLastOnesMs));
  if (removed.ok()) return {};
  // Only who is in it is a reason to leave it; a systemd that is slow is not.
  const auto left = runtime::cgroup::pids(cgroup);
  if (left.ok() && left->empty())
    return runtime::remove_cgroup(cgroup, Deadline::after_ms(kPatienceMs));
  call.log.warn(
      cat("the cgroup stays, with what is not the container's in it: ", removed.error().message()));
  return {};
}

Result<> end_cgroup(Invocation& call, const Record& record, const oci::Spec& spec, Init init) {
  const bool ends =
      !call.launcher.ends_with_init(spec) && (init == Init::kLivedTillNow || holds_its_own(record));
  return ends ? runtime::end_cgroup(record.cgroup, Deadline::after_ms(kPatienceMs))
              : leave_cgroup(call, record.cgroup);
}

// A kill through the cgroup would be the end of what is below, too.
Result<> check_alone(const Invocation& call, const Record& record, const oci::Spec& spec) {
  if (call.launcher.ends_with_init(spec)) return {};
  const std::string other = runtime::cgroup::find_other_below(
      record.cgroup, {.pid = record.pid, .start_time = record.start_time});
  if (other.empty()) return {};
  return Error(Code::kFailedPrecondition,
               cat("linux.cgroupsPath: another container's cgroup lies in this one's: ",
                   quote(other, 1024), ": delete that container first"));
}

void run_poststop(Invocation& call, const Record& record, const oci::Spec& spec) {
  if (!spec.hooks) return;
  oci::State state;
  state.id = record.id;
  state.status = "stopped";
  state.bundle = record.bundle;
  state.annotations = record.annotations;
  const runtime::HookPlace place{.cwd = record.bundle,
                                 .stop = {.fd = call.stop(), .grace_ms = runtime::kLastHooksMs}};
  for (const std::string& failure :
       runtime::run_all_hooks(spec.hooks->poststop, "poststop", oci::to_json(state), place)) {
    call.log.warn(failure);
  }
}

Result<> remove_rest(Invocation& call, Folder& folder, const Record& record, const oci::Spec& spec,
                     Init init) {
  FLUYT_TRY(end_cgroup(call, record, spec, init));
  FLUYT_TRY(runtime::release(spec, record.id, record.rootfs, record.root_mount));
  FLUYT_TRY(folder.remove());
  // A hook may take its time, and the name is free.
  folder.unlock();
  run_poststop(call, record, spec);
  return {};
}

}  // namespace

bool holds_its_own(const Record& record) {
  return runtime::cgroup::is_marked(record.cgroup,
                                    {.pid = record.pid, .start_time = record.start_time});
}

Result<> end_init(const Folder& folder, const Record& record) {
  FLUYT_TRY(end_first(folder, record));
  return {};
}

Result<> destroy_ended(Invocation& call, Folder& folder, const Record& record,
                       const oci::Spec& spec) {
  auto locked = folder.lock();
  // Somebody has deleted it, which was the end of all of it; what has its name now is another.
  if (!locked.ok() && locked.error().code() == Code::kNotFound) return {};
  FLUYT_TRY(std::move(locked));
  FLUYT_TRY(check_alone(call, record, spec));
  return remove_rest(call, folder, record, spec, Init::kEndedBefore);
}

Result<> destroy(Invocation& call, Folder& folder, const Record& record) {
  // Without its configuration it may be anything.
  const oci::Spec spec = folder.load_config().value_or(oci::Spec());
  FLUYT_TRY(check_alone(call, record, spec));
  const Init init = FLUYT_TRY(end_first(folder, record));
  return remove_rest(call, folder, record, spec, init);
}

}  // namespace fluyt::commands
