#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cmd/runtime/log.h"
#include "cmd/runtime/options.h"
#include "cmd/runtime/signals.h"
#include "oci/runtime_spec.h"
#include "runtime/container.h"

namespace fluyt::commands {

struct Invocation;
class Folder;

/// A command's exit status; an Error is logged and is exit status 1 (255 for exec).
using Function = Result<int> (*)(Invocation&);

struct Command {
  std::string_view name;
  Function function;
  int failed = 1;  // exit status where it is an error
  std::string_view help;
};

/// How a runtime makes containers and runs programs in them: all that runf and rung differ in.
class Launcher {
 public:
  Launcher() = default;
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;
  virtual ~Launcher() = default;

  virtual std::string_view name() const = 0;
  /// Whether programs of the container come near our own program file (protect_program()).
  virtual bool shows_itself() const = 0;
  /// Its commands besides those below, and its global options.
  virtual std::span<const Command> commands() const = 0;
  virtual std::vector<Option> options() { return {}; }
  /// What cannot be done is an error, before anything is changed.
  virtual Result<> check(const oci::Spec& spec) const = 0;
  /// Whether its programs could reach a socket of the host's that is bound into the root
  /// (notify.h).
  virtual bool reaches_host_sockets() const { return true; }
  /// Whether the end of a container's first process is the end of all of its processes, as in a PID
  /// namespace of its own.
  virtual bool ends_with_init(const oci::Spec& spec) const = 0;
  /// As runtime::create() and runtime::exec(). `folder` is the container's state folder.
  virtual Result<runtime::Created> create(runtime::CreateRequest& request,
                                          const std::string& folder) const = 0;
  virtual Result<runtime::Executed> exec(runtime::ExecRequest& request,
                                         const std::string& folder) const = 0;
  /// The container's limits are about to change: sees to those that are not its cgroup's, and may
  /// change what the cgroup gets.
  virtual Result<> update(oci::Resources& resources, const std::string& folder) const = 0;
  /// Nothing of the container runs until resume(). `folder` shows it by Folder::mark_paused() where
  /// its cgroup does not.
  virtual Result<> pause(const Folder& folder, const runtime::CgroupRecord& cgroup) const = 0;
  virtual Result<> resume(const Folder& folder, const runtime::CgroupRecord& cgroup) const = 0;
  /// Sends a signal other than SIGKILL to all of the container's programs. False: they are
  /// processes of the host's kernel, and who asks signals those.
  virtual Result<bool> signal_all(const Folder& /*folder*/, int /*signal*/) const { return false; }
  /// The container's programs as ps(1) shows them with `options`. Nothing: they are processes of
  /// the host's kernel, and the host's ps knows them.
  virtual Result<std::optional<std::string>> show_processes(
      const Folder& /*folder*/, const std::vector<std::string>& /*options*/) const {
    return std::optional<std::string>();
  }
  /// Changes what `features` prints of runf.
  virtual void describe(nlohmann::ordered_json& features) const = 0;
};

struct Globals {
  std::string program;  // what we were called
  std::string root;
  bool root_given = false;
  std::string log;
  std::string log_format = "text";
  std::string rootless = "auto";
  bool debug = false;
  bool systemd_cgroup = false;
  std::string cgroup_manager;  // crun's word: cgroupfs, systemd or disabled; empty: cgroupfs
  bool help = false;
  bool version = false;
};

struct Invocation {
  const Launcher& launcher;
  const Globals& globals;
  Log& log;
  std::vector<std::string> words;       // behind the command's name
  const std::vector<std::string>& all;  // as we were called
  std::optional<Signals> signals = {};  // of one that undoes what it made when it is asked to end

  /// Can be read once it is asked; invalid where signals do as they always do.
  sys::FdRef stop() const { return signals ? signals->fd() : sys::FdRef(); }
};

/// Before anything of ours enters a container: sees to it that nothing in there can write to our
/// program file (sys/self.h). Called once files were read and before anything was changed: where it
/// takes another execve(2), we start again. What it gives is to be kept until the container's
/// process runs (sys::protect_in_place()).
Result<sys::Fd> protect_program(const Invocation& call);

/// The whole program: reads the command line and carries out the command. Its exit status.
int run_program(int argc, char** argv, Launcher& launcher);

Result<int> create(Invocation& call);
Result<int> run(Invocation& call);
Result<int> start(Invocation& call);
Result<int> state(Invocation& call);
Result<int> kill(Invocation& call);
Result<int> remove(Invocation& call);
Result<int> exec(Invocation& call);
Result<int> list(Invocation& call);
Result<int> ps(Invocation& call);
Result<int> spec(Invocation& call);
Result<int> pause(Invocation& call);
Result<int> resume(Invocation& call);
Result<int> update(Invocation& call);
Result<int> events(Invocation& call);
Result<int> features(Invocation& call);

/// The command's options and its other words, at least `least` and at most `most`; SIZE_MAX when
/// they are another program's, and options end at the first. Nothing: --help was asked for and
/// answered.
Result<std::optional<std::vector<std::string>>> read_words(Invocation& call,
                                                           std::vector<Option> table,
                                                           std::string_view usage, size_t least,
                                                           size_t most);

}  // namespace fluyt::commands
