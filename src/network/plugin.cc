#include "network/plugin.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "network/builtin/builtin.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::network {

namespace {

bool is_program(const std::string& path) {
  struct stat st{};
  return ::stat(path.c_str(), &st) == 0 && S_ISREG(st.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

Result<std::string> run_program(const PluginCall& call, const std::vector<std::string>& bin_dirs) {
  if (call.deadline.passed()) {
    return Error(Code::kDeadlineExceeded, "not started: no time is left");
  }
  const std::string program = FLUYT_TRY(find_plugin(call.type, bin_dirs));
  const sys::Captured captured = FLUYT_TRY(
      sys::run({.args = {program}, .env = make_environment(call.command, call.args, bin_dirs)},
               call.request, kMaxPluginOutput, call.deadline));
  if (captured.timed_out) {
    std::string said = captured.err.empty() ? "" : cat("; it said ", quote(trim(captured.err)));
    return Error(Code::kDeadlineExceeded, cat("given up at its deadline and killed", said));
  }
  const int code = captured.status.shell_code();
  if (code != 0) return parse_failure(code, captured.out, captured.err);
  return captured.out;
}

Result<std::string> run_built_in(const PluginCall& call, Firewall& firewall) {
  if (call.deadline.passed()) {
    return Error(Code::kDeadlineExceeded, "not started: no time is left");
  }
  const builtin::Call ours{.request = nlohmann::json::parse(call.request, nullptr, false),
                           .container_id = call.args.container_id,
                           .netns = call.args.netns,
                           .device = call.args.interface,
                           .deadline = call.deadline,
                           .firewall = firewall,
                           .leftovers = call.leftovers,
                           .attached = call.attached};
  switch (call.command) {
    case Command::kAdd:
      return builtin::add(call.type, ours);
    case Command::kCheck:
      FLUYT_TRY(builtin::check(call.type, ours));
      break;
    case Command::kDel:
      FLUYT_TRY(builtin::remove(call.type, ours));
      break;
    case Command::kStatus:
      FLUYT_TRY(builtin::status(call.type, ours));
      break;
    case Command::kGc:
      FLUYT_TRY(builtin::collect(call.type, ours));
      break;
  }
  return std::string();
}

std::string name_of(const PluginCall& call) {
  return cat("plugin ", quote(call.type, 64), " ", command_name(call.command));
}

}  // namespace

Result<std::string> call_built_in(const PluginCall& call, Firewall& firewall) {
  return FLUYT_TRY_CONTEXT(run_built_in(call, firewall), name_of(call));
}

Result<std::string> call_program(const PluginCall& call, const std::vector<std::string>& bin_dirs) {
  return FLUYT_TRY_CONTEXT(run_program(call, bin_dirs), name_of(call));
}

Result<std::string> find_plugin(const std::string& type, const std::vector<std::string>& bin_dirs) {
  for (const std::string& folder : bin_dirs) {
    std::string path = cat(folder, "/", type);
    if (is_program(path)) return path;
  }
  return Error(Code::kNotFound, cat("no program ", quote(type, 64), " in ", join(bin_dirs, ", ")));
}

}  // namespace fluyt::network
