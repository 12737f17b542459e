#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/runf/criu_options.h"
#include "cmd/runtime/bundle.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/destroy.h"
#include "cmd/runtime/foreground.h"
#include "cmd/runtime/start_process.h"
#include "cmd/runtime/store.h"
#include "runtime/checkpoint/checkpoint.h"
#include "sys/file.h"

namespace fluyt::commands {

namespace {

struct Options {
  CriuOptions criu;
  std::string bundle = ".";
  std::string console_socket;
  std::string pid_file;
  bool detach = false;
  bool no_subreaper = false;
  bool no_pivot = false;
};

std::vector<Option> options_of(Options& o) {
  std::vector<Option> table = criu_options(o.criu);
  auto& s = o.criu.settings;
  const std::vector<Option> more = {
      {"bundle", 'b', &o.bundle, "the bundle's folder (default: the working directory)"},
      {"detach", 'd', &o.detach, "return once the container runs"},
      {"console-socket", 0, &o.console_socket, "AF_UNIX socket that gets the terminal's master"},
      {"pid-file", 0, &o.pid_file, "file that gets the first process's pid"},
      {"lsm-profile", 0, &s.lsm_profile, "TYPE:NAME in place of the archive's"},
      {"lsm-mount-context", 0, &s.lsm_mount_context, "SELinux context of mounts"},
      {"no-subreaper", 0, &o.no_subreaper,
       "accepted for callers of runc: there is none to turn off"},
      {"no-pivot", 0, &o.no_pivot, "accepted for callers of runc: criu makes the root"}};
  table.insert(table.end(), more.begin(), more.end());
  return table;
}

// CRIU restores into a time namespace, so that clocks go on where they stood. What is executed in
// the container later must be in it too: config.json as it is kept says so.
Result<std::string> config_of(const Loaded& loaded, pid_t pid) {
  if (!loaded.spec.linux_) return loaded.text;
  for (const oci::Namespace& space : loaded.spec.linux_->namespaces) {
    if (space.type == oci::NamespaceType::kTime) return loaded.text;
  }
  const sys::Fd ours = FLUYT_TRY(sys::open("/proc/self/ns/time", O_PATH));
  const sys::Fd its = FLUYT_TRY(sys::open(cat("/proc/", pid, "/ns/time"), O_PATH));
  if (FLUYT_TRY(sys::stat_of(ours)).st_ino == FLUYT_TRY(sys::stat_of(its)).st_ino)
    return loaded.text;
  auto json = nlohmann::ordered_json::parse(loaded.text);
  json["linux"]["namespaces"].push_back({{"type", "time"}});
  return json.dump();
}

// Everything is there and verified, and nothing of it runs: whoever waits for it may be told.
Result<> hand_over(const Options& o, const Folder& folder, const Loaded& loaded,
                   runtime::Created& created, Record& record) {
  if (!o.console_socket.empty()) {
    if (!created.console.valid())
      return Error(Code::kFailedPrecondition, "process.terminal: the archive has no terminal");
    FLUYT_TRY(send_console(o.console_socket, created.console));
    created.console.reset();
  }
  // In this order: without a configuration what is in the cgroup is ended with the first process,
  // which CRIU's is until the record names another.
  FLUYT_TRY(folder.save_unfinished(record));
  FLUYT_TRY(folder.save_config(FLUYT_TRY(config_of(loaded, created.init.pid()))));
  FLUYT_TRY(folder.made());
  if (!o.pid_file.empty())
    FLUYT_TRY_CONTEXT(write_pid_file(o.pid_file, created.init.pid()), "option --pid-file");
  return {};
}

}  // namespace

Result<int> restore(Invocation& call) {
  Options o;
  const auto words =
      FLUYT_TRY(read_words(call, options_of(o), "restore [options] CONTAINER", 1, 1));
  if (!words) return 0;
  FLUYT_TRY(read_criu_options(o.criu));
  if (call.globals.cgroup_manager == "disabled") {
    return Error(Code::kUnimplemented,
                 "option --cgroup-manager: \"disabled\": a restore needs a cgroup");
  }
  const std::string& id = (*words)[0];
  const Loaded loaded = FLUYT_TRY(load_bundle(o.bundle, "config.json"));
  const sys::Fd kept = FLUYT_TRY(protect_program(call));
  FLUYT_TRY(check_terminal(call, loaded.spec.process && loaded.spec.process->terminal, o.detach,
                           o.console_socket));
  // What comes from here on finds somebody who undoes what was made, or passes it on.
  call.signals =
      FLUYT_TRY(Signals::take(o.detach ? Signals::Which::kAskingToEnd : Signals::Which::kAll));
  const std::string boot_id = FLUYT_TRY(sys::boot_id());
  Folder folder = FLUYT_TRY(Folder::make(call.globals.root, id));
  Record record;
  auto make = [&]() -> Result<runtime::Created> {
    runtime::checkpoint::RestoreRequest request;
    request.id = id;
    request.bundle = loaded.bundle;
    request.spec = loaded.spec;
    request.stdio = {sys::FdRef(STDIN_FILENO), sys::FdRef(STDOUT_FILENO),
                     sys::FdRef(STDERR_FILENO)};
    request.settings = o.criu.settings;
    request.stop = call.stop();
    if (call.globals.systemd_cgroup) request.cgroup_driver = runtime::cgroup::Driver::kSystemd;
    auto note = [&](const runtime::Made& made) {
      record = record_of(id, loaded, made);
      record.boot_id = boot_id;
    };
    request.on_made = [&](const runtime::Made& made) {
      note(made);
      return folder.save_unfinished(record);
    };
    request.on_ready = [&](runtime::Created& created) -> Result<> {
      if (call.signals->asked_to_end())
        return Error(Code::kCancelled, "given up before anything of the container ran");
      note({.pid = created.init.pid(),
            .start_time = created.start_time,
            .cgroup = created.cgroup,
            .root_mount = created.root_mount});
      return hand_over(o, folder, loaded, created, record);
    };
    return runtime::checkpoint::restore(request);
  };
  auto created = make();
  if (!created.ok()) {
    folder.give_up();
    return end_of(call, std::move(created).error());
  }
  for (const std::string& warning : created->warnings) call.log.warn(warning);
  if (o.detach) return 0;
  const int code = FLUYT_TRY(stay(*call.signals, created->init, std::move(created->console)));
  FLUYT_TRY(destroy_ended(call, folder, record, loaded.spec));
  return code;
}

}  // namespace fluyt::commands
