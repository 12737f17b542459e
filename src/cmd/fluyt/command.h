#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cmd/fluyt/options.h"

namespace fluyt::cli {

class Client;

inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
/// Docker's, where the exit code is otherwise a container's: fluyt itself failed, the program may
/// not be run, there is no such program.
inline constexpr int kExitEngine = 125;
inline constexpr int kExitNotExecutable = 126;
inline constexpr int kExitNoProgram = 127;
/// One of the last two where `error` says that a program could not be executed, else 0. CRI has one
/// code for that and for other requests that cannot be; the words tell them apart.
int exit_of_program(const Error& error);

/// What every command is given.
struct Context {
  std::string socket;
  /// Connects at the first call.
  Result<Client*> client();
  /// An error that is the caller's: exit status 2.
  Error usage(std::string text);

  std::unique_ptr<Client> connection;
  bool is_usage = false;
  /// In place of CommandInfo::failure, when a command knows better.
  int failure = 0;

  explicit Context(std::string socket_path);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
};

class Command {
 public:
  virtual ~Command() = default;
  virtual void declare(Options& options) = 0;
  /// The exit status. An error is printed by main and ends with `CommandInfo::failure`.
  virtual Result<int> run(Context& context) = 0;
};

struct CommandInfo {
  std::string_view name;
  std::string_view arguments;  // behind the name in the usage line
  std::string_view summary;    // one line, for the list
  std::string_view details;    // more, and examples; lines
  std::unique_ptr<Command> (*make)();
  int failure = kExitFailed;
  int usage = kExitUsage;
};

// One file each.
CommandInfo attach_command();
CommandInfo cp_command();
CommandInfo doctor_command();
CommandInfo events_command();
CommandInfo exec_command();
CommandInfo gc_command();
CommandInfo history_command();
CommandInfo image_prune_command();
CommandInfo image_tree_command();
CommandInfo image_verify_command();
CommandInfo images_command();
CommandInfo import_command();
CommandInfo info_command();
CommandInfo inspect_command();
CommandInfo kill_command();
CommandInfo load_command();
CommandInfo log_level_command();
CommandInfo logs_command();
CommandInfo pods_command();
CommandInfo ps_command();
CommandInfo pull_command();
CommandInfo push_command();
CommandInfo restart_command();
CommandInfo rm_command();
CommandInfo rmi_command();
CommandInfo run_command();
CommandInfo save_command();
CommandInfo start_command();
CommandInfo stats_command();
CommandInfo stop_command();
CommandInfo tag_command();
CommandInfo top_command();
CommandInfo trace_command();
CommandInfo version_command();
CommandInfo wait_command();

}  // namespace fluyt::cli
