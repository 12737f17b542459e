#pragma once

#include <string>
#include <vector>

#include "monitor/protocol/messages.h"

/// The commands that a runtime program is called with, as argument vectors. Only what runc, crun,
/// youki, runsc and runf have in common is used.
namespace fluyt::monitor {

using Words = std::vector<std::string>;

/// Of one call: the program's log, which it writes as lines of JSON.
struct CallFiles {
  std::string log;
  std::string pid;             // create and exec
  std::string console_socket;  // create and exec, with a terminal
};

Words create_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id,
                     const std::string& bundle);
Words start_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id);
/// `process` is the file with the process object.
Words exec_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id,
                   const std::string& process);
Words kill_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id,
                   int signal);
/// `resources` is the file with linux.resources.
Words update_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id,
                     const std::string& resources);
/// Kills what runs; a container that is not there is success. Without `files.log` it keeps none.
Words delete_command(const RuntimeProgram& runtime, const CallFiles& files, const std::string& id);

/// What a program's environment is: nothing of ours.
const Words& program_environment();

}  // namespace fluyt::monitor
