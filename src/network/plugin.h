#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "network/builtin/firewall.h"
#include "network/request.h"
#include "network/result.h"

/// The step that calls plugins: programs, or what is built in.
namespace fluyt::network {

/// The program `type` in the first folder that has it and lets it be run. kNotFound names it and
/// all the folders.
Result<std::string> find_plugin(const std::string& type, const std::vector<std::string>& bin_dirs);

struct PluginCall {
  Command command = Command::kAdd;
  std::string type;
  std::string request;  // its standard input, of request.h
  AttachmentArgs args;  // but for STATUS and GC
  Deadline deadline;
  std::vector<std::string>* leftovers = nullptr;  // of builtin::Call
  std::set<std::string> attached{};               // the same
};

/// Runs one plugin in a session of its own and returns what it printed. At the deadline its process
/// group is killed (kDeadlineExceeded). Errors start with the plugin's name and command.
Result<std::string> call_program(const PluginCall& call, const std::vector<std::string>& bin_dirs);

/// The same of one that is built in. All but ADD give nothing.
Result<std::string> call_built_in(const PluginCall& call, Firewall& firewall);

}  // namespace fluyt::network
