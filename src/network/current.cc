#include <utility>

#include "base/strings.h"
#include "network/builtin/builtin.h"
#include "network/cni_network.h"
#include "network/plugin.h"

/// Which network it is, and whether it can be used.
namespace fluyt::network {

namespace {

constexpr int64_t kAskMs = 2'000;
constexpr int64_t kHoldsNs = 10'000'000'000;

std::string list_broken(const std::vector<BrokenFile>& broken) {
  std::string out;
  for (const BrokenFile& file : broken) {
    if (!out.empty()) out += "; ";
    out += cat(file.path, ": ", file.reason);
  }
  return out;
}

}  // namespace

// Who is to do each entry's ADD. What is said here is said once a configuration.
void CniNetwork::choose(NetworkConfig& network) {
  if (options_.plugins == Plugins::kProgramsOnly) return;
  for (PluginConfig& plugin : network.plugins) {
    const auto why = builtin::why_not(plugin.type, plugin.json);
    plugin.built_in = !why;
    if (!why || why->empty()) continue;
    logger_.info(cat(network.source, ": plugin ", quote(plugin.type, 64),
                     " is run as a program, not built in, for: ", *why));
  }
}

Result<> CniNetwork::choose_now(NetworkConfig& network) {
  for (PluginConfig& plugin : network.plugins) {
    if (!plugin.built_in) continue;
    std::string why = FLUYT_TRY(builtin::why_not_now(plugin.type, firewall_));
    if (why.empty()) continue;
    plugin.built_in = false;
    const std::string line = cat(network.source, ": plugin ", quote(plugin.type, 64),
                                 " is run as a program, not built in, because of ", why);
    auto program = find_plugin(plugin.type, options_.bin_dirs);
    if (!program.ok()) return std::move(program).error().add_context(line);
    auto last = why_not_now_.lock();
    if (*last != line) logger_.info(line);
    *last = line;
  }
  return {};
}

CniNetwork::Known CniNetwork::reload() {
  std::string fingerprint = fingerprint_of(options_.conf_dir);
  {
    auto known = known_.lock();
    if (known->read && known->fingerprint == fingerprint) return *known;
  }
  Known fresh{.fingerprint = std::move(fingerprint), .read = true, .folder = {}, .unreadable = {}};
  auto folder = load_folder(options_.conf_dir);
  if (folder.ok()) {
    fresh.folder = std::move(folder).value();
  } else {
    fresh.unreadable = folder.error().message();
  }
  for (const BrokenFile& file : fresh.folder.broken) {
    logger_.warn(cat("network configuration skipped: ", file.path, ": ", file.reason));
  }
  if (!fresh.folder.networks.empty()) choose(fresh.folder.networks.front());
  *known_.lock() = fresh;
  return fresh;
}

Result<NetworkConfig> CniNetwork::current() {
  const Known known = reload();
  const LoadedFolder& folder = known.folder;
  if (folder.networks.empty()) {
    std::string why = cat("no network configuration in ", options_.conf_dir);
    if (!known.unreadable.empty()) {
      why += cat(": ", known.unreadable);
    } else if (!folder.broken.empty()) {
      why += cat(": ", list_broken(folder.broken));
    } else {
      why += ": it has no *.conflist, *.conf or *.json file";
    }
    return Error(Code::kFailedPrecondition, why);
  }
  const NetworkConfig& network = folder.networks.front();
  for (const PluginConfig& plugin : network.plugins) {
    if (plugin.built_in) continue;
    auto program = find_plugin(plugin.type, options_.bin_dirs);
    if (!program.ok()) {
      return std::move(program)
          .error()
          .with_code(Code::kFailedPrecondition)
          .add_context(network.source);
    }
  }
  return network;
}

// All of them, and the first that has something to say.
Result<> CniNetwork::ask_plugins(const NetworkConfig& network) {
  const bool by_programs = !version_before(network.version, "1.1.0");
  for (const PluginConfig& plugin : network.plugins) {
    if (!plugin.built_in && !by_programs) continue;
    auto request = FLUYT_TRY(make_status_request(network, plugin));
    const PluginCall what{.command = Command::kStatus,
                          .type = plugin.type,
                          .request = std::move(request),
                          .args = {},
                          .deadline = Deadline::after_ms(kAskMs)};
    FLUYT_TRY(plugin.built_in ? call_built_in(what, firewall_)
                              : call_program(what, options_.bin_dirs));
  }
  return {};
}

std::string CniNetwork::trouble_of_plugins(const NetworkConfig& network,
                                           const std::string& fingerprint) {
  {
    auto asked = asked_.lock();
    const bool same = asked->fingerprint == fingerprint && asked->at_ns != 0;
    if (asked->under_way) return same ? asked->trouble : "";
    if (same && now_boot_ns() - asked->at_ns < kHoldsNs) return asked->trouble;
    asked->under_way = true;
  }
  const auto answer = ask_plugins(network);
  std::string trouble = answer.ok() ? "" : cat(network.source, ": ", answer.error().message());
  auto asked = asked_.lock();
  if (trouble != asked->trouble) {
    if (trouble.empty()) {
      logger_.info(cat("network ", quote(network.name), ": its plugins are ready"));
    } else {
      logger_.warn(cat("network ", quote(network.name), " is not ready: ", trouble));
    }
  }
  *asked = {
      .fingerprint = fingerprint, .at_ns = now_boot_ns(), .under_way = false, .trouble = trouble};
  return trouble;
}

Status CniNetwork::status() {
  constexpr const char* kNotReady = "NetworkPluginNotReady";
  auto network = current();
  if (!network.ok()) {
    return {.ready = false, .reason = kNotReady, .message = network.error().message()};
  }
  const Known known = reload();
  Status status{.ready = true, .reason = {}, .message = {}};
  if (!known.folder.broken.empty()) {
    status.message = cat("skipped: ", list_broken(known.folder.broken));
  }
  if (std::string trouble = trouble_of_plugins(*network, known.fingerprint); !trouble.empty()) {
    return {.ready = false, .reason = kNotReady, .message = std::move(trouble)};
  }
  return status;
}

}  // namespace fluyt::network
