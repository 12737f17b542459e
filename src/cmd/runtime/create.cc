#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/runtime/bundle.h"
#include "cmd/runtime/caller_ids.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/destroy.h"
#include "cmd/runtime/foreground.h"
#include "cmd/runtime/start_process.h"
#include "cmd/runtime/store.h"
#include "runtime/cgroup/limits.h"
#include "runtime/container.h"
#include "runtime/hooks.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/patience.h"

namespace fluyt::commands {

namespace {

struct Options {
  std::string bundle = ".";
  std::string config = "config.json";
  std::string console_socket;
  std::string pid_file;
  std::string pidfd_socket;
  bool no_pivot = false;
  bool no_new_keyring = false;
  bool no_subreaper = false;
  int preserve_fds = 0;
  bool detach = false;
  bool keep = false;
};

std::vector<Option> common_options(Options& o) {
  return {
      {"bundle", 'b', &o.bundle, "the bundle's folder (default: the working directory)"},
      {"config", 'f', &o.config,
       "the specification, relative to the bundle (default: config.json)"},
      {"console-socket", 0, &o.console_socket, "AF_UNIX socket that gets the terminal's master"},
      {"pidfd-socket", 0, &o.pidfd_socket, "AF_UNIX socket that gets the first process's pidfd"},
      {"pid-file", 0, &o.pid_file, "file that gets the first process's pid"},
      {"no-pivot", 0, &o.no_pivot,
       "move the root instead of pivoting, where / is the initial ramfs"},
      {"no-new-keyring", 0, &o.no_new_keyring, "keep the caller's session keyring"},
      {"preserve-fds", 0, &o.preserve_fds, "how many descriptors from 3 up the program gets too"}};
}

// FIFOs in the state folder for `create`; pipes for a `run` that has something to do between the
// last step and the program; none for one that has not: each time that one process waits for the
// other takes as long as some mounts.
enum class GateKind { kFifos, kPipes, kNone };

GateKind gate_of_run(const Options& o, const oci::Spec& spec) {
  const bool plain = !(spec.process && spec.process->terminal) && !spec.hooks &&
                     o.console_socket.empty() && o.pidfd_socket.empty() && o.pid_file.empty();
  return plain ? GateKind::kNone : GateKind::kPipes;
}

struct Gate {
  sys::Fd inner_gate, inner_report;  // the container's ends
  sys::Fd gate, report;              // ours, for run
};

Result<Gate> make_gate(const Folder& folder, GateKind kind) {
  Gate out;
  if (kind == GateKind::kNone) return out;
  if (kind == GateKind::kFifos) {
    Folder::Gate fifos = FLUYT_TRY(folder.make_gate());
    out.inner_gate = std::move(fifos.gate);
    out.inner_report = std::move(fifos.report);
    return out;
  }
  sys::Pipe gate = FLUYT_TRY(sys::make_pipe());
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  out.inner_gate = std::move(gate.read);
  out.gate = std::move(gate.write);
  out.report = std::move(report.read);
  out.inner_report = std::move(report.write);
  return out;
}

struct Raised {
  Folder folder;
  Loaded loaded;
  runtime::Created created;
  Gate gate;
  Record record;
  std::optional<NotifyRelay> notify;  // of a run
};

// The container's life ends as every other does, with its poststop hooks.
void undo(Invocation& call, Folder& folder, const Loaded& loaded, const Record& record,
          const runtime::Created& created) {
  constexpr std::string_view kWhy = "the error that led here is the one to tell";
  created.init.kill(SIGKILL).ignore(kWhy);
  created.init.wait(Deadline::after_ms(5000)).ignore(kWhy);
  destroy_ended(call, folder, record, loaded.spec).ignore(kWhy);
}

Result<> hand_over(const Options& o, const Folder& folder, runtime::Created& created) {
  if (!o.console_socket.empty()) {
    FLUYT_TRY(send_console(o.console_socket, created.console));
    created.console.reset();
  }
  FLUYT_TRY(folder.made());
  if (!o.pidfd_socket.empty()) FLUYT_TRY(send_pidfd(o.pidfd_socket, created.init));
  if (!o.pid_file.empty())
    FLUYT_TRY_CONTEXT(write_pid_file(o.pid_file, created.init.pid()), "option --pid-file");
  return {};
}

// For a caller without rights over cgroups: one that nobody asked for is left out.
bool needs_no_cgroup(const Globals& globals, const oci::Spec& spec, bool without_rights) {
  if (globals.rootless == "false" || (globals.rootless == "auto" && !without_rights)) return false;
  if (!spec.linux_) return true;
  const bool limits =
      spec.linux_->resources && !runtime::cgroup::needs(*spec.linux_->resources).empty();
  return spec.linux_->cgroups_path.empty() && !limits;
}

// True: without rights over the host. A caller without privileges is root of a user namespace of
// its own first, which is what all the rest takes: of its own id, and of those that it has by
// /etc/subuid and /etc/subgid where the container is to have some. Somebody may have done that for
// it.
Result<bool> take_rights(Loaded& loaded) {
  if (geteuid() == 0 || FLUYT_TRY(sys::may_administrate())) return sys::in_user_namespace();
  std::vector<oci::IdMapping> none;
  auto& uids = loaded.spec.linux_ ? loaded.spec.linux_->uid_mappings : none;
  auto& gids = loaded.spec.linux_ ? loaded.spec.linux_->gid_mappings : none;
  for (const auto& [mappings, field] :
       {std::pair(&uids, "linux.uidMappings"), {&gids, "linux.gidMappings"}}) {
    if (!mappings->empty()) continue;
    return Error(Code::kPermissionDenied,
                 cat(field, ": without privileges: expected mappings, as of runf spec --rootless"));
  }
  const auto known_uids = FLUYT_TRY_CONTEXT(take_over(uids, geteuid()), "linux.uidMappings");
  const auto known_gids = FLUYT_TRY_CONTEXT(take_over(gids, getegid()), "linux.gidMappings");
  FLUYT_TRY(become_root_with(known_uids, known_gids));
  return true;
}

enum class Verb { kCreate, kRun, kRunDetached };

Result<Raised> raise(Invocation& call, const std::string& id, const Options& o, Verb verb) {
  const int preserve_fds = FLUYT_TRY(open_descriptors(o.preserve_fds, call.log));
  Loaded loaded = FLUYT_TRY(load_bundle(o.bundle, o.config));
  FLUYT_TRY(check_terminal(call, loaded.spec.process && loaded.spec.process->terminal,
                           verb != Verb::kRun, o.console_socket));
  FLUYT_TRY(call.launcher.check(loaded.spec));
  // Here rather than first of all: the pages of what reads a specification are ours no longer.
  const sys::Fd kept = FLUYT_TRY(protect_program(call));
  // What comes from here on finds somebody who undoes what was made, or passes it on.
  call.signals = FLUYT_TRY(
      Signals::take(verb == Verb::kRun ? Signals::Which::kAll : Signals::Which::kAskingToEnd));
  const uid_t owner = getuid();
  const bool without_rights = FLUYT_TRY(take_rights(loaded));
  std::optional<std::string> manager;
  if (call.launcher.reaches_host_sockets()) manager = FLUYT_TRY(NotifyRelay::manager());
  Folder folder = FLUYT_TRY(Folder::make(call.globals.root, id));
  auto make = [&]() -> Result<Raised> {
    std::optional<NotifyRelay> notify;
    if (manager) {
      FLUYT_TRY(NotifyRelay::prepare(folder, loaded.spec));
      if (verb != Verb::kCreate) notify = FLUYT_TRY(NotifyRelay::open(folder, *manager));
    }
    Gate gate = FLUYT_TRY(
        make_gate(folder, verb == Verb::kCreate ? GateKind::kFifos : gate_of_run(o, loaded.spec)));
    runtime::CreateRequest request;
    request.id = id;
    request.bundle = loaded.bundle;
    request.spec = loaded.spec;
    request.stdio = {sys::FdRef(STDIN_FILENO), sys::FdRef(STDOUT_FILENO),
                     sys::FdRef(STDERR_FILENO)};
    request.gate = gate.inner_gate;
    request.report = gate.inner_report;
    request.preserve_fds =
        request.spec.process ? add_listen_fds(preserve_fds, *request.spec.process) : preserve_fds;
    if (call.globals.cgroup_manager == "disabled" ||
        needs_no_cgroup(call.globals, loaded.spec, without_rights))
      request.cgroups = runtime::Cgroups::kNone;
    if (verb == Verb::kRun) request.newlines = runtime::Newlines::kAsWritten;
    request.stop = call.stop();
    request.no_pivot = o.no_pivot;
    request.no_new_keyring = o.no_new_keyring;
    if (call.globals.systemd_cgroup) request.cgroup_driver = runtime::cgroup::Driver::kSystemd;
    Record record;
    request.on_made = [&](const runtime::Made& made) -> Result<> {
      const bool is_first = record.pid == 0;
      record = record_of(id, loaded, made);
      record.owner = owner;
      record.no_new_keyring = o.no_new_keyring;
      record.boot_id = FLUYT_TRY(sys::boot_id());
      if (is_first) FLUYT_TRY(folder.save_config(loaded.text));
      FLUYT_TRY(folder.save_unfinished(record));
      return folder.save_packed(record, loaded.spec);
    };
    call.log.debug(cat("container ", id, ": bundle ", loaded.bundle));
    debug_filter(call.log, loaded.spec);
    runtime::Created created = FLUYT_TRY(call.launcher.create(request, folder.path()));
    for (const std::string& warning : created.warnings) call.log.warn(warning);
    call.log.debug(
        cat("container ", id, ": first process ", created.init.pid(), " waits at its gate"));
    gate.inner_gate.reset();
    gate.inner_report.reset();
    auto done = hand_over(o, folder, created);
    if (!done.ok()) {
      undo(call, folder, loaded, record, created);
      return std::move(done).error();
    }
    return Raised{std::move(folder), std::move(loaded), std::move(created),
                  std::move(gate),   std::move(record), std::move(notify)};
  };
  auto raised = make();
  if (!raised.ok()) folder.give_up();
  return raised;
}

std::string state_json(const Record& record, std::string_view status) {
  oci::State out;
  out.id = record.id;
  out.status = status;
  out.pid = status == "stopped" ? 0 : record.pid;
  out.bundle = record.bundle;
  out.annotations = record.annotations;
  return oci::to_json(out);
}

// Why the program could not be executed; empty when it was. Hooks of the container come first, and
// may take their time.
Result<std::string> open_gate(Invocation& call, Raised& raised) {
  if (!raised.gate.gate.valid()) return std::string();
  const auto given_up = [] {
    return Error(Code::kCancelled, "given up before the container's program was executed");
  };
  // A first process may be deaf to it, so it is not let go first.
  if (call.signals && call.signals->asked_to_end()) return given_up();
  FLUYT_TRY(sys::write_all(raised.gate.gate, "\n"));
  sys::Patience patience(Deadline::never(), {.fd = call.stop()});
  if (!FLUYT_TRY(patience.wait_readable(raised.gate.report))) return given_up();
  return sys::read_all(raised.gate.report, 1U << 16U);
}

Result<> after_start(Invocation& call, const Raised& raised) {
  if (!raised.loaded.spec.hooks) return {};
  return runtime::run_hooks(raised.loaded.spec.hooks->poststart, "poststart",
                            state_json(raised.record, "running"),
                            {.cwd = raised.record.bundle, .stop = {.fd = call.stop()}});
}

}  // namespace

Result<int> create(Invocation& call) {
  Options o;
  const auto words =
      FLUYT_TRY(read_words(call, common_options(o), "create [options] CONTAINER", 1, 1));
  if (!words) return 0;
  auto made = raise(call, (*words)[0], o, Verb::kCreate);
  return made.ok() ? 0 : end_of(call, std::move(made).error());
}

Result<int> run(Invocation& call) {
  Options o;
  std::vector<Option> table = common_options(o);
  table.push_back({"detach", 'd', &o.detach, "return once the program runs"});
  table.push_back({"keep", 0, &o.keep, "keep the stopped container"});
  table.push_back({"no-subreaper", 0, &o.no_subreaper,
                   "accepted for callers of runc: there is none to turn off"});
  const auto words = FLUYT_TRY(read_words(call, std::move(table), "run [options] CONTAINER", 1, 1));
  if (!words) return 0;
  const Verb verb = o.detach ? Verb::kRunDetached : Verb::kRun;
  auto made = raise(call, (*words)[0], o, verb);
  if (!made.ok()) {
    if (!made.error().message().starts_with(runtime::kNotExecuted))
      return end_of(call, std::move(made).error());
    call.log.fail_program(made.error().message());
    return 1;
  }
  Raised raised = std::move(*made);
  auto give_up = [&] { undo(call, raised.folder, raised.loaded, raised.record, raised.created); };
  auto why = open_gate(call, raised);
  if (why.ok() && !why->empty()) {
    give_up();
    call.log.fail_program(*why);
    return 1;
  }
  auto started = why.ok() ? after_start(call, raised) : Result<>(std::move(why).error());
  if (!started.ok()) {
    give_up();
    return end_of(call, std::move(started).error());
  }
  call.log.debug(cat("container ", raised.record.id, ": its program runs"));
  NotifyRelay* notify = raised.notify ? &*raised.notify : nullptr;
  if (o.detach) {
    auto ready =
        notify == nullptr ? Result<>() : notify->pass_until_ready(raised.created.init, call.stop());
    if (ready.ok()) return 0;
    give_up();
    return end_of(call, std::move(ready).error());
  }
  const int code = FLUYT_TRY(
      stay(*call.signals, raised.created.init, std::move(raised.created.console), notify));
  if (!o.keep) FLUYT_TRY(destroy_ended(call, raised.folder, raised.record, raised.loaded.spec));
  return code;
}

}  // namespace fluyt::commands
