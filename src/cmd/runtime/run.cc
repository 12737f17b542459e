#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "oci/runtime_spec.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/rights.h"
#include "sys/self.h"

namespace fluyt::commands {

namespace {

constexpr int kFailed = 1;
constexpr int kExecFailed = 255;

constexpr std::array kCommands = std::to_array<Command>({
    {"create", create, kFailed, "make a container that waits to be started"},
    {"delete", remove, kFailed, "remove a stopped container"},
    {"events", events, kFailed, "print what a container uses"},
    {"exec", exec, kExecFailed, "run one more program in a container"},
    {"features", features, kFailed, "print what this runtime can do"},
    {"kill", kill, kFailed, "send a signal to a container"},
    {"list", list, kFailed, "list containers"},
    {"pause", pause, kFailed, "freeze a container"},
    {"ps", ps, kFailed, "list a container's processes"},
    {"resume", resume, kFailed, "thaw a container"},
    {"run", run, kFailed, "make a container and start it"},
    {"spec", spec, kFailed, "write a default config.json"},
    {"start", start, kFailed, "start a created container"},
    {"state", state, kFailed, "print a container's state"},
    {"update", update, kFailed, "change a container's limits"},
});

std::vector<Option> global_options(Globals& g) {
  return {
      {"root", 0, &g.root, "folder of the containers' states"},
      {"log", 0, &g.log, "file for log lines (default: standard error)"},
      {"log-format", 0, &g.log_format, "text or json"},
      {"debug", 0, &g.debug, "log more"},
      {"systemd-cgroup", 0, &g.systemd_cgroup,
       "new containers are scopes of systemd; cgroupsPath is slice:prefix:name"},
      {"cgroup-manager", 0, &g.cgroup_manager, "as crun has it: cgroupfs, systemd or disabled"},
      {"rootless", 0, &g.rootless, "without cgroups where none are asked for: true, false or auto"},
      {"version", 'v', &g.version, "print the version"},
      {"help", 'h', &g.help, "print this"}};
}

void print(std::string_view text) {
  sys::write_all(sys::FdRef(STDOUT_FILENO), text).ignore("nobody reads it");
}

// All that this runtime has, by name.
std::vector<Command> commands_of(const Launcher& launcher) {
  std::vector<Command> all(kCommands.begin(), kCommands.end());
  all.insert(all.end(), launcher.commands().begin(), launcher.commands().end());
  std::sort(all.begin(), all.end(),
            [](const Command& a, const Command& b) { return a.name < b.name; });
  return all;
}

void print_help(const Globals& globals, const std::vector<Command>& commands,
                const std::vector<Option>& options) {
  std::string text =
      cat("NAME:\n   ", globals.program, " - Open Container Initiative runtime\n\nUSAGE:\n   ",
          globals.program, " [global options] COMMAND [options] [arguments]\n\nCOMMANDS:\n");
  for (const Command& command : commands) {
    text += cat("  ", command.name, std::string(12 - command.name.size(), ' '), command.help, "\n");
  }
  print(cat(text, "\nGLOBAL OPTIONS:\n", describe_options(options)));
}

// The first sentence about the command that `usage` begins with.
std::string_view help_of(const Launcher& launcher, std::string_view usage) {
  const std::string_view name = usage.substr(0, usage.find(' '));
  for (const Command& command : commands_of(launcher)) {
    if (command.name == name) return command.help;
  }
  return {};
}

// Callers read these three lines of every runtime.
void print_version(const Globals& globals) {
  print(cat(globals.program, " version ", FLUYT_VERSION, "\ncommit: v", FLUYT_VERSION,
            "\nspec: ", oci::Spec().oci_version, "\n"));
}

std::string default_root(std::string_view name) {
  const char* runtime_dir = getenv("XDG_RUNTIME_DIR");
  if (!sys::is_root_of_machine() && runtime_dir != nullptr) return cat(runtime_dir, "/", name);
  return cat("/run/", name);
}

Result<> check_globals(const Globals& g, Log& log) {
  if (g.log_format != "text" && g.log_format != "json") {
    return Error(Code::kInvalidArgument,
                 cat("option --log-format: ", quote(g.log_format), ": expected text or json"));
  }
  if (g.rootless != "true" && g.rootless != "false" && g.rootless != "auto") {
    return Error(Code::kInvalidArgument,
                 cat("option --rootless: ", quote(g.rootless), ": expected true, false or auto"));
  }
  FLUYT_TRY(
      log.open(g.log, g.log_format == "json" ? Log::Format::kJson : Log::Format::kText, g.debug));
  if (!g.cgroup_manager.empty() && g.cgroup_manager != "cgroupfs" &&
      g.cgroup_manager != "systemd" && g.cgroup_manager != "disabled") {
    return Error(Code::kInvalidArgument, cat("option --cgroup-manager: ", quote(g.cgroup_manager),
                                             ": expected cgroupfs, systemd or disabled"));
  }
  return {};
}

int main(int argc, char** argv, Launcher& launcher) {
  // We live for milliseconds: what was freed is used again, and nothing goes back to the kernel.
  mallopt(M_TOP_PAD, 1 << 20);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  const std::vector<std::string> all(argv, argv + argc);
  // A peer that hangs up is an error of the write, not the end of us.
  ::signal(SIGPIPE, SIG_IGN);
  Globals globals;
  // Before anything else is opened: a container would get it as its standard input.
  auto streams = sys::open_missing_streams();
  if (argc > 0) globals.program = std::string(all[0].substr(all[0].rfind('/') + 1));
  Log log;
  if (!streams.ok()) {
    log.fail(streams.error());
    return kFailed;
  }
  const std::vector<Command> commands = commands_of(launcher);
  std::vector<Option> options = global_options(globals);
  for (Option& option : launcher.options()) options.push_back(std::move(option));
  auto words = parse_options(options, {all.begin() + 1, all.end()}, Place::kInFront);
  if (!words.ok()) {
    log.fail(words.error());
    return kFailed;
  }
  globals.root_given = !globals.root.empty();
  if (!globals.root_given) globals.root = default_root(launcher.name());
  if (globals.version) return print_version(globals), 0;
  if (globals.help || words->empty() || (*words)[0] == "help")
    return print_help(globals, commands, options), 0;
  const auto command = std::find_if(commands.begin(), commands.end(),
                                    [&](const Command& c) { return c.name == (*words)[0]; });
  if (globals.cgroup_manager == "systemd") globals.systemd_cgroup = true;
  auto checked = check_globals(globals, log);
  if (!checked.ok()) {
    log.fail(checked.error());
    return kFailed;
  }
  if (command == commands.end()) {
    log.fail(Error(Code::kUnimplemented, cat("no such command: ", quote((*words)[0]),
                                             ": No help topic for '", (*words)[0], "'")));
    return kFailed;
  }
  Invocation call{launcher, globals, log, {words->begin() + 1, words->end()}, all};
  auto done = command->function(call);
  if (done.ok()) return *done;
  log.fail(done.error());
  return command->failed;
}

}  // namespace

int run_program(int argc, char** argv, Launcher& launcher) { return main(argc, argv, launcher); }

Result<sys::Fd> protect_program(const Invocation& call) {
  if (!call.launcher.shows_itself() || FLUYT_TRY(sys::runs_protected())) return sys::Fd();
  auto mount = sys::protect_in_place();
  if (mount.ok()) return mount;
  return sys::execute_protected(call.all, environ);
}

Result<std::optional<std::vector<std::string>>> read_words(Invocation& call,
                                                           std::vector<Option> table,
                                                           std::string_view usage, size_t least,
                                                           size_t most) {
  bool help = false;
  table.push_back({"help", 'h', &help, "print this"});
  const Place place = most == SIZE_MAX ? Place::kInFront : Place::kAnywhere;
  std::vector<std::string> words = FLUYT_TRY(parse_options(table, call.words, place));
  if (help) {
    print(cat("NAME:\n   ", call.globals.program, " ", usage.substr(0, usage.find(' ')), " - ",
              help_of(call.launcher, usage), "\n\nUSAGE:\n   ", call.globals.program, " ", usage,
              "\n\nOPTIONS:\n", describe_options(table)));
    return std::optional<std::vector<std::string>>();
  }
  if (words.size() < least || words.size() > most) {
    return Error(Code::kInvalidArgument, cat("expected: ", call.launcher.name(), " ", usage));
  }
  return std::optional(std::move(words));
}

}  // namespace fluyt::commands
