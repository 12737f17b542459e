#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "network/config.h"
#include "network/network.h"

/// What a plugin is given: pure functions of the configuration and the sandbox.
namespace fluyt::network {

enum class Command { kAdd, kCheck, kDel, kStatus, kGc };
std::string_view command_name(Command command);

/// The parts of a sandbox as plugins see them. Kept with the result, so that DEL gets what ADD got.
struct AttachmentArgs {
  std::string container_id;
  std::string netns;  // empty for a DEL whose namespace is gone
  std::string interface = "eth0";
  std::string cni_args;           // CNI_ARGS
  std::string capabilities_json;  // an object: every capability argument that we have
  bool operator==(const AttachmentArgs&) const = default;
};
/// Checks the ids and names and derives the rest. Errors name the field.
Result<AttachmentArgs> make_args(const SandboxNetwork& sandbox);

/// kFailedPrecondition, naming it, for a host port while no plugin has the capability portMappings:
/// the sandbox would run without what was asked for.
Result<> check_ports_are_served(const NetworkConfig& network,
                                const std::vector<PortMapping>& mappings);

/// The environment of one plugin call: CNI_* and a fixed PATH, nothing of ours. STATUS and GC are
/// about no sandbox: `args` is left out.
std::vector<std::string> make_environment(Command command, const AttachmentArgs& args,
                                          const std::vector<std::string>& bin_dirs);

/// A plugin's standard input: its configuration with cniVersion, name, runtimeConfig (what it has
/// the capability for and we have an argument for) and prevResult (when there is one).
Result<std::string> make_request(const NetworkConfig& network, const PluginConfig& plugin,
                                 const AttachmentArgs& args, std::string_view previous_result);

/// The same for STATUS, and for GC with what is to stay.
struct AttachmentName {
  std::string container_id, interface;
};
Result<std::string> make_status_request(const NetworkConfig& network, const PluginConfig& plugin);
Result<std::string> make_gc_request(const NetworkConfig& network, const PluginConfig& plugin,
                                    const std::vector<AttachmentName>& valid);

}  // namespace fluyt::network
