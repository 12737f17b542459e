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

Result<std::string> call(Command command, const NetworkConfig& network, const PluginConfig& plugin,
                         const AttachmentArgs& args, std::string_view previous_result,
                         const std::vector<std::string>& bin_dirs, Deadline deadline) {
  if (deadline.passed()) {
    return Error(Code::kDeadlineExceeded, "not started: no time is left");
  }
  const std::string program = FLUYT_TRY(find_plugin(plugin.type, bin_dirs));
  const std::string request = FLUYT_TRY(make_request(network, plugin, args, previous_result));
  const sys::Captured captured =
      FLUYT_TRY(sys::run({.args = {program}, .env = make_environment(command, args, bin_dirs)},
                         request, kMaxPluginOutput, deadline));
  if (captured.timed_out) {
    std::string said = captured.err.empty() ? "" : cat("; it said ", quote(trim(captured.err)));
    return Error(Code::kDeadlineExceeded, cat("given up at its deadline and killed", said));
  }
  const int code = captured.status.shell_code();
  if (code != 0) return parse_failure(code, captured.out, captured.err);
  return captured.out;
}

Result<std::string> call_ours(Command command, const NetworkConfig& network,
                              const PluginConfig& plugin, const AttachmentArgs& args,
                              std::string_view previous_result, Firewall& firewall,
                              Deadline deadline) {
  if (deadline.passed()) {
    return Error(Code::kDeadlineExceeded, "not started: no time is left");
  }
  const std::string request = FLUYT_TRY(make_request(network, plugin, args, previous_result));
  const builtin::Call call{.request = nlohmann::json::parse(request, nullptr, false),
                           .container_id = args.container_id,
                           .netns = args.netns,
                           .device = args.interface,
                           .deadline = deadline,
                           .firewall = firewall};
  if (command == Command::kAdd) return builtin::add(plugin.type, call);
  FLUYT_TRY(command == Command::kCheck ? builtin::check(plugin.type, call)
                                       : builtin::remove(plugin.type, call));
  return std::string();
}

}  // namespace

Result<std::string> call_built_in(Command command, const NetworkConfig& network,
                                  const PluginConfig& plugin, const AttachmentArgs& args,
                                  std::string_view previous_result, Firewall& firewall,
                                  Deadline deadline) {
  return FLUYT_TRY_CONTEXT(
      call_ours(command, network, plugin, args, previous_result, firewall, deadline),
      cat("plugin ", quote(plugin.type, 64), " ", command_name(command)));
}

Result<std::string> find_plugin(const std::string& type, const std::vector<std::string>& bin_dirs) {
  for (const std::string& folder : bin_dirs) {
    std::string path = cat(folder, "/", type);
    if (is_program(path)) return path;
  }
  return Error(Code::kNotFound, cat("no program ", quote(type, 64), " in ", join(bin_dirs, ", ")));
}

Result<std::string> call_plugin(Command command, const NetworkConfig& network,
                                const PluginConfig& plugin, const AttachmentArgs& args,
                                std::string_view previous_result,
                                const std::vector<std::string>& bin_dirs, Deadline deadline) {
  return FLUYT_TRY_CONTEXT(
      call(command, network, plugin, args, previous_result, bin_dirs, deadline),
      cat("plugin ", quote(plugin.type, 64), " ", command_name(command)));
}

}  // namespace fluyt::network
