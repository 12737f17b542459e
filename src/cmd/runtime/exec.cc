#include <signal.h>
#include <unistd.h>

#include <ranges>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/foreground.h"
#include "cmd/runtime/start_process.h"
#include "cmd/runtime/store.h"
#include "cmd/runtime/user/user.h"
#include "oci/process_file.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/container.h"
#include "runtime/plan.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::commands {

namespace {

struct Options {
  std::string console_socket;
  std::string pidfd_socket;
  std::optional<std::string> cwd;
  std::vector<std::string> env;
  bool tty = false;
  std::optional<std::string> user;
  std::vector<std::string> groups;
  std::optional<std::string> process;
  bool detach = false;
  std::string pid_file;
  std::optional<std::string> process_label;
  std::optional<std::string> apparmor;
  bool no_new_privs = false;
  std::vector<std::string> capabilities;
  int preserve_fds = 0;
  std::vector<std::string> cgroups;
  bool ignore_paused = false;
};

std::vector<Option> options_of(Options& o) {
  return {
      {"console-socket", 0, &o.console_socket, "AF_UNIX socket that gets the terminal's master"},
      {"pidfd-socket", 0, &o.pidfd_socket, "AF_UNIX socket that gets the process's pidfd"},
      {"cwd", 0, &o.cwd, "working directory in the container"},
      {"env", 'e', &o.env, "NAME=value, may be given again"},
      {"tty", 't', &o.tty, "with a terminal"},
      {"user", 'u', &o.user, "UID[:GID]"},
      {"additional-gids", 'g', &o.groups, "further groups, by number"},
      {"process", 'p', &o.process, "file with the whole process object"},
      {"detach", 'd', &o.detach, "return once the program runs"},
      {"pid-file", 0, &o.pid_file, "file that gets the process's pid"},
      {"process-label", 0, &o.process_label, "SELinux label"},
      {"apparmor", 0, &o.apparmor, "AppArmor profile"},
      {"no-new-privs", 0, &o.no_new_privs, "set no_new_privs"},
      {"cap", 'c', &o.capabilities, "one capability more, may be given again"},
      {"preserve-fds", 0, &o.preserve_fds, "how many descriptors from 3 up the program gets too"},
      {"cgroup", 0, &o.cgroups,
       "[CONTROLLER[,...]:]PATH below the container's cgroup; with controllers it may be given "
       "again"},
      {"ignore-paused", 0, &o.ignore_paused, "also in a paused container"}};
}

Result<> set_identity(const Options& o, oci::Process& process) {
  if (o.user) FLUYT_TRY(set_user(*o.user, process.user));
  for (const std::string& group : o.groups) {
    process.user.additional_gids.push_back(FLUYT_TRY(parse_id(group, "additional-gids")));
  }
  return {};
}

// As runc has it: bounding, effective and permitted; never inheritable (CVE-2022-29162), ambient
// only where the container's own process has inheritable ones (it counts for those alone).
void add_capabilities(const std::vector<std::string>& names, oci::Process& process) {
  if (names.empty()) return;
  if (!process.capabilities) process.capabilities.emplace();
  for (const std::string& name : names) {
    process.capabilities->bounding.push_back(name);
    process.capabilities->effective.push_back(name);
    process.capabilities->permitted.push_back(name);
    if (!process.capabilities->inheritable.empty()) process.capabilities->ambient.push_back(name);
  }
}

Result<oci::Process> make_process(const Options& o, const oci::Spec& spec,
                                  const std::vector<std::string>& words) {
  if (o.process) {
    const std::string text =
        FLUYT_TRY_CONTEXT(sys::read_file(*o.process, oci::kMaxSpecBytes), "option --process");
    const oci::Process own = spec.process.value_or(oci::Process{});
    return FLUYT_TRY_CONTEXT(oci::parse_process_file(text, own), "option --process");
  }
  if (words.size() < 2) return Error(Code::kInvalidArgument, "exec args cannot be empty");
  oci::Process process = spec.process.value_or(oci::Process{});
  process.args.assign(words.begin() + 1, words.end());
  if (o.cwd) process.cwd = *o.cwd;
  process.env.insert(process.env.end(), o.env.begin(), o.env.end());
  process.terminal = o.tty;
  process.console_size.reset();
  if (o.no_new_privs) process.no_new_privileges = true;
  if (o.apparmor) process.apparmor_profile = *o.apparmor;
  if (o.process_label) process.selinux_label = *o.process_label;
  add_capabilities(o.capabilities, process);
  FLUYT_TRY(set_identity(o, process));
  return process;
}

// One path for all hierarchies, or one a v1 controller.
Result<> set_cgroups(const std::vector<std::string>& words, runtime::ExecRequest& request) {
  auto wrong = [](std::string_view word, std::string_view why) {
    return Error(Code::kInvalidArgument, cat("option --cgroup: ", quote(word), ": ", why));
  };
  for (const std::string& word : words) {
    const size_t colon = word.find(':');
    if (colon == std::string::npos) {
      if (words.size() > 1) return wrong(word, "expected CONTROLLER:PATH where there are several");
      request.below_cgroup = word;
      return {};
    }
    for (const std::string_view name : split(std::string_view(word).substr(0, colon), ',')) {
      if (name.empty()) return wrong(word, "expected CONTROLLER:PATH");
      if (!request.below_controllers.emplace(name, word.substr(colon + 1)).second)
        return wrong(word, cat("controller ", name, " stands twice"));
    }
  }
  return {};
}

// The container, as far as this needs it.
Result<Packed> load(const Folder& folder) {
  if (auto packed = folder.find_packed()) return std::move(*packed);
  Record record = FLUYT_TRY(folder.load());
  auto spec = folder.load_config();
  if (!spec.ok()) return std::move(spec).error();
  return Packed{.id = std::move(record.id),
                .pid = record.pid,
                .start_time = record.start_time,
                .boot_id = std::move(record.boot_id),
                .bundle = std::move(record.bundle),
                .annotations = {record.annotations.begin(), record.annotations.end()},
                .no_new_keyring = record.no_new_keyring,
                .cgroup = std::move(record.cgroup),
                .process = std::move(spec->process),
                .linux_ = std::move(spec->linux_)};
}

// That its first process lives is seen by who joins it.
Result<> check_not_paused(const Options& o, const Folder& folder, const Packed& container) {
  if (o.ignore_paused) return {};
  if (!folder.is_marked_paused() && !FLUYT_TRY(runtime::cgroup::frozen(container.cgroup)))
    return {};
  return Error(Code::kFailedPrecondition,
               "cannot exec in a paused container (use --ignore-paused to override)");
}

// The CPUs that the process had while it joined, as a mask, in the words in which runc's --debug
// tells of it.
void debug_affinity(Log& log, const oci::Process& process, pid_t pid) {
  if (!process.exec_cpu_affinity || process.exec_cpu_affinity->initial.empty()) return;
  auto cpus = runtime::parse_number_list(process.exec_cpu_affinity->initial, "initial");
  if (!cpus.ok()) return;        // it was read before
  std::vector<unsigned> digits;  // the lowest first
  for (const unsigned cpu : *cpus) {
    const size_t at = cpu / 4;
    if (digits.size() <= at) digits.resize(at + 1, 0);
    digits[at] |= 1U << cpu % 4;
  }
  std::string mask = "0x";
  for (const unsigned digit : std::views::reverse(digits)) mask += "0123456789abcdef"[digit];
  log.debug(cat("nsexec[", pid, "]: affinity: ", mask));
}

Result<> hand_over(const Options& o, runtime::Executed& executed) {
  if (!o.console_socket.empty()) {
    FLUYT_TRY(send_console(o.console_socket, executed.console));
    executed.console.reset();
  }
  if (!o.pidfd_socket.empty()) FLUYT_TRY(send_pidfd(o.pidfd_socket, executed.process));
  if (!o.pid_file.empty())
    FLUYT_TRY_CONTEXT(write_pid_file(o.pid_file, executed.process.pid()), "option --pid-file");
  return {};
}

// Whoever is told of an error takes it that nothing runs.
void end(const sys::Process& process) {
  constexpr std::string_view kWhy = "the error that led here is the one to tell";
  process.kill(SIGKILL).ignore(kWhy);
  process.wait(Deadline::after_ms(5000)).ignore(kWhy);
}

// What callers know of it first, where that is why.
Error explain(const Folder& folder, const Running& container, Error error) {
  auto status = status_of(folder, container);
  if (!status.ok() || *status != Status::kStopped) return error;
  return Error(Code::kFailedPrecondition, "cannot exec in a stopped container");
}

}  // namespace

Result<int> exec(Invocation& call) {
  Options o;
  const auto words = FLUYT_TRY(read_words(
      call, options_of(o), "exec [options] CONTAINER COMMAND [ARGUMENTS...]", 1, SIZE_MAX));
  if (!words) return 0;
  const int preserve_fds = FLUYT_TRY(open_descriptors(o.preserve_fds, call.log));
  const Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  Packed container = FLUYT_TRY(load(folder));
  sys::Fd kept = FLUYT_TRY(protect_program(call));
  if (folder.outlives_boot() && FLUYT_TRY(sys::boot_id()) != container.boot_id)
    return Error(Code::kFailedPrecondition, "cannot exec in a stopped container");
  FLUYT_TRY(check_not_paused(o, folder, container));
  runtime::ExecRequest request;
  request.id = container.id;
  request.bundle = std::move(container.bundle);
  request.spec.annotations = {container.annotations.begin(), container.annotations.end()};
  request.no_new_keyring = container.no_new_keyring;
  request.spec.process = std::move(container.process);
  request.spec.linux_ = std::move(container.linux_);
  request.process = FLUYT_TRY(make_process(o, request.spec, *words));
  FLUYT_TRY(check_terminal(call, request.process.terminal, o.detach, o.console_socket));
  request.init_pid = container.pid;
  request.init_start_time = container.start_time;
  request.cgroup = std::move(container.cgroup);
  FLUYT_TRY(set_cgroups(o.cgroups, request));
  request.even_if_paused = o.ignore_paused;
  request.seen_not_paused = !o.ignore_paused;
  request.stdio = {sys::FdRef(STDIN_FILENO), sys::FdRef(STDOUT_FILENO), sys::FdRef(STDERR_FILENO)};
  if (!o.detach) request.newlines = runtime::Newlines::kAsWritten;
  request.preserve_fds = preserve_fds;
  call.log.debug(cat("container ", request.id, ": exec beside process ", request.init_pid));
  debug_filter(call.log, request.spec);
  auto done = call.launcher.exec(request, folder.path());
  if (!done.ok()) {
    const Running container_now{.pid = request.init_pid,
                                .start_time = request.init_start_time,
                                .boot_id = container.boot_id,
                                .cgroup = request.cgroup};
    return explain(folder, container_now, std::move(done).error());
  }
  runtime::Executed executed = std::move(*done);
  kept.reset();
  call.log.debug(cat("container ", request.id, ": process ", executed.process.pid(), " runs"));
  debug_affinity(call.log, request.process, executed.process.pid());
  for (const std::string& warning : executed.warnings) call.log.warn(warning);
  auto handed = hand_over(o, executed);
  if (!handed.ok()) return end(executed.process), std::move(handed).error();
  if (o.detach) return 0;
  auto code = [&]() -> Result<int> {
    const Signals signals = FLUYT_TRY(Signals::take(Signals::Which::kAll));
    return stay(signals, executed.process, std::move(executed.console));
  }();
  if (!code.ok()) end(executed.process);
  return code;
}

}  // namespace fluyt::commands
