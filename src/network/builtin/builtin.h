#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "network/builtin/fields.h"
#include "network/builtin/firewall.h"

/// Plugins in this process: from the same configuration the same result as the programs of
/// github.com/containernetworking/plugins, without one.
namespace fluyt::network::builtin {

/// What a program would be given in its environment and on its standard input.
struct Call {
  Json request;
  std::string container_id;
  std::string netns;  // empty for a DEL whose namespace is gone
  std::string device;
  Deadline deadline;
  Firewall& firewall;
  /// GC: gets a line about each thing that would go, which then stays.
  std::vector<std::string>* leftovers = nullptr;
  /// GC: "ID/DEVICE" of what is attached to any network: packet rules lie in one table, and other
  /// networks may have the same addresses.
  std::set<std::string> attached{};
};

/// Why the program has to be run for this entry, nothing when it need not be: then every key in it
/// is one that we implement. Empty text: we do not know the plugin at all.
std::optional<std::string> why_not(const std::string& type, const std::string& config_json);

/// The same for what is so now and may not be later: asked before each ADD. Empty: nothing.
Result<std::string> why_not_now(const std::string& type, Firewall& firewall);

/// ADD: the result as JSON. What a failed one has done is for remove() to undo. Errors of the
/// configuration name field and value. All three are only for a type that why_not() lets through.
Result<std::string> add(const std::string& type, const Call& call);
/// CHECK against request.prevResult: kFailedPrecondition says what is not as ADD left it.
Result<> check(const std::string& type, const Call& call);
/// DEL, at any time and any number of times.
Result<> remove(const std::string& type, const Call& call);
/// STATUS: an error says why every ADD would fail now: a wrong field, a device that is not there.
Result<> status(const std::string& type, const Call& call);
/// GC: what belongs to none of request["cni.dev/valid-attachments"] goes, or is told of.
Result<> collect(const std::string& type, const Call& call);

}  // namespace fluyt::network::builtin
