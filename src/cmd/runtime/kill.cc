#include <signal.h>

#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/destroy.h"
#include "cmd/runtime/store.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/container.h"
#include "sys/process.h"

namespace fluyt::commands {

namespace {

constexpr int64_t kPatienceMs = 10'000;

// "9", "KILL", "SIGKILL", "kill"; "0" asks whether it runs.
Result<int> parse_signal(const std::string& text) {
  if (const auto number = parse_number<int>(text)) {
    if (*number >= 0 && *number < NSIG) return *number;
  }
  std::string name = to_lower(text);
  if (name.starts_with("sig")) name = name.substr(3);
  for (int number = 1; number < 32; ++number) {
    const char* known = sigabbrev_np(number);
    if (known != nullptr && to_lower(known) == name) return number;
  }
  if (name == "rtmin") return SIGRTMIN;
  if (name == "rtmax") return SIGRTMAX;
  if (name.starts_with("rtmin+")) {
    const auto more = parse_number<int>(name.substr(6));
    if (more && SIGRTMIN + *more <= SIGRTMAX) return SIGRTMIN + *more;
  }
  return Error(Code::kInvalidArgument, cat("unknown signal ", quote(text)));
}

// Without a PID namespace of its own its first process is like any other: the rest outlives it.
bool outlives_init(const Invocation& call, const Folder& folder) {
  auto spec = folder.load_config();
  return spec.ok() && !call.launcher.ends_with_init(*spec);
}

Error not_running() { return {Code::kFailedPrecondition, "container not running"}; }

// What runs of the container beside its first process is known by its cgroup, as long as that is
// its own: while the first lives nobody else is let in.
Result<bool> owns_cgroup(Invocation& call, const Folder& folder, const Record& record) {
  if (FLUYT_TRY(status_of(folder, record)) != Status::kStopped) return true;
  return outlives_init(call, folder) && holds_its_own(record);
}

// All that is in its cgroup. With none, it ran no more.
Result<> kill_together(Invocation& call, const Folder& folder, const Record& record) {
  if (!FLUYT_TRY(owns_cgroup(call, folder, record)) ||
      FLUYT_TRY(runtime::pids(record.cgroup)).empty())
    return not_running();
  return runtime::kill_all(record.cgroup, Deadline::after_ms(kPatienceMs));
}

// They are told to die, whatever keeps one of them in the kernel for now.
Result<> kill_every(Invocation& call, const Record& record) {
  auto killed = runtime::kill_all(record.cgroup, Deadline::after_ms(kPatienceMs));
  if (killed.ok() || killed.error().code() != Code::kDeadlineExceeded) return killed;
  call.log.warn(cat("killed, but not gone yet: ", killed.error().message()));
  return {};
}

// A pid that is still listed once its pidfd is open is that process.
Result<> signal_each(const Record& record, int number) {
  std::vector<sys::Process> held;
  for (const pid_t pid : FLUYT_TRY(runtime::pids(record.cgroup))) {
    auto process = sys::Process::open(pid);
    if (process.ok()) held.push_back(std::move(*process));
  }
  const std::vector<pid_t> still = FLUYT_TRY(runtime::pids(record.cgroup));
  for (const sys::Process& process : held) {
    if (std::ranges::binary_search(still, process.pid())) FLUYT_TRY(process.kill(number));
  }
  return {};
}

Result<> kill_one(Invocation& call, const std::string& id, int number, bool all) {
  const Folder folder = FLUYT_TRY(Folder::open(call.globals.root, id));
  const Record record = FLUYT_TRY(folder.load());
  const bool has_cgroup = !record.cgroup.unified.empty() || !record.cgroup.legacy.empty();
  if (all && has_cgroup) {
    if (!FLUYT_TRY(owns_cgroup(call, folder, record))) return {};
    // What is forked meanwhile is on no list.
    if (number == SIGKILL) return kill_every(call, record);
    if (number != 0 && FLUYT_TRY(call.launcher.signal_all(folder, number))) return {};
    return signal_each(record, number);
  }
  if (number == SIGKILL && has_cgroup && outlives_init(call, folder))
    return kill_together(call, folder, record);
  // The pidfd first, then the question whose it is.
  auto process = sys::Process::open(record.pid);
  if (!process.ok() || FLUYT_TRY(status_of(folder, record)) == Status::kStopped) {
    return not_running();
  }
  FLUYT_TRY(process->kill(number));
  if (number == SIGKILL && FLUYT_TRY(status_of(folder, record)) == Status::kPaused) {
    // On v1 a frozen process dies only once it thaws.
    FLUYT_TRY(runtime::cgroup::thaw(record.cgroup));
  }
  return {};
}

}  // namespace

Result<int> kill(Invocation& call) {
  bool all = false;
  bool regex = false;
  const auto words = FLUYT_TRY(read_words(
      call,
      {{"all", 'a', &all, "every process of the container"},
       {"regex", 'r', &regex, "CONTAINER is a regular expression: every one it matches"}},
      "kill [options] CONTAINER [SIGNAL]", 1, 2));
  if (!words) return 0;
  const int number = FLUYT_TRY(parse_signal(words->size() > 1 ? (*words)[1] : "SIGTERM"));
  if (!regex) {
    FLUYT_TRY(kill_one(call, (*words)[0], number, all));
    return 0;
  }
  for (const std::string& id : FLUYT_TRY(matching_ids(call.globals.root, (*words)[0]))) {
    auto killed = kill_one(call, id, number, all);
    if (!killed.ok()) call.log.warn(cat(id, ": ", killed.error().message()));
  }
  return 0;
}

}  // namespace fluyt::commands
