#include "network/network.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <mutex>
#include <utility>

#include "base/strings.h"
#include "base/trace.h"
#include "network/builtin/builtin.h"
#include "network/cni_network.h"
#include "network/plugin.h"

namespace fluyt::network {

namespace {

// Cleaning up after a failure needs time of its own: the deadline may be what failed.
constexpr int64_t kCleanupMs = 30'000;

}  // namespace

// procfs is how /proc/PID/ns looks on old kernels.
bool is_namespace(const std::string& path) {
  struct statfs fs{};
  if (path.empty() || ::statfs(path.c_str(), &fs) != 0) return false;
  return fs.f_type == NSFS_MAGIC || fs.f_type == PROC_SUPER_MAGIC;
}

Result<std::string> CniNetwork::call(Command command, const Record& record,
                                     const PluginConfig& plugin, const AttachmentArgs& args,
                                     std::string_view previous_result, Deadline deadline) {
  const trace::Span span(cat("plugin ", plugin.type));
  auto request = FLUYT_TRY(make_request(record.network, plugin, args, previous_result));
  const PluginCall what{.command = command,
                        .type = plugin.type,
                        .request = std::move(request),
                        .args = args,
                        .deadline = deadline};
  return plugin.built_in ? call_built_in(what, firewall_) : call_program(what, options_.bin_dirs);
}

Result<std::optional<Turns::Turn>> CniNetwork::take_turn(const PluginConfig& plugin,
                                                         Deadline deadline) {
  if (plugin.built_in) return std::optional<Turns::Turn>();
  return std::optional(
      FLUYT_TRY_CONTEXT(turns_.take(deadline), cat("plugin ", quote(plugin.type, 64))));
}

// Runs the chain, `record.result` always being the last result there is.
Result<PluginResult> CniNetwork::add_all(Record& record, Deadline deadline) {
  PluginResult last;
  for (const PluginConfig& plugin : record.network.plugins) {
    const auto turn = FLUYT_TRY(take_turn(plugin, deadline));
    const std::string output =
        FLUYT_TRY(call(Command::kAdd, record, plugin, record.args, record.result, deadline));
    last = FLUYT_TRY_CONTEXT(parse_result(output, record.network.version, record.args.interface),
                             cat("plugin ", quote(plugin.type, 64), " ADD"));
    record.result = last.json;
  }
  return last;
}

Result<Attachment> CniNetwork::attach(const SandboxNetwork& sandbox, Deadline deadline) {
  const std::shared_lock collecting(collecting_);
  Record record;
  record.network = FLUYT_TRY(current());
  FLUYT_TRY(choose_now(record.network));
  record.args = FLUYT_TRY(make_args(sandbox));
  FLUYT_TRY(check_ports_are_served(record.network, sandbox.port_mappings));
  if (!is_namespace(sandbox.netns_path)) {
    return Error(Code::kFailedPrecondition,
                 cat("netns_path: ", quote(sandbox.netns_path), " is not a network namespace"));
  }
  if (FLUYT_TRY(cache_.find(sandbox.sandbox_id))) {
    return Error(Code::kAlreadyExists, cat("sandbox ", sandbox.sandbox_id, " is attached already"));
  }
  FLUYT_TRY(cache_.put(record));

  auto fail = [&](Error error) {
    // The record holds the last good result: DEL gets as much as there was.
    auto cleaned = delete_all(record, Deadline::after_ms(kCleanupMs));
    if (cleaned.ok()) cleaned = cache_.remove(sandbox.sandbox_id);
    if (!cleaned.ok()) {
      error.add_context(cat("cleaning up failed too (", cleaned.error().message(), ")"));
    }
    return std::move(error.add_context(cat("network ", quote(record.network.name))));
  };
  auto added = add_all(record, deadline);
  if (!added.ok()) return fail(std::move(added).error());
  record.state = Record::State::kAttached;
  if (auto kept = cache_.put(record); !kept.ok()) return fail(std::move(kept).error());
  return Attachment{
      .ips = added->ips, .interface = record.args.interface, .result_json = record.result};
}

Result<> CniNetwork::check(const SandboxNetwork& sandbox, Deadline deadline) {
  FLUYT_TRY(make_args(sandbox));
  const auto record = FLUYT_TRY(cache_.find(sandbox.sandbox_id));
  if (!record || record->state != Record::State::kAttached) {
    return Error(Code::kNotFound,
                 cat("sandbox ", sandbox.sandbox_id, " is not attached to a network"));
  }
  if (record->network.disable_check || version_before(record->network.version, "0.4.0")) return {};
  for (const PluginConfig& plugin : record->network.plugins) {
    FLUYT_TRY_CONTEXT(
        call(Command::kCheck, *record, plugin, record->args, record->result, deadline),
        cat("network ", quote(record->network.name)));
  }
  return {};
}

Result<std::unique_ptr<Network>> Network::open(Options options, Logger& logger) {
  for (const std::string& folder : options.bin_dirs) {
    if (!folder.starts_with('/') || folder.find(':') != std::string::npos) {
      return Error(Code::kInvalidArgument,
                   cat("cni bin dir: ", quote(folder), " is not an absolute path without ':'"));
    }
  }
  if (options.bin_dirs.empty()) return Error(Code::kInvalidArgument, "cni bin dirs: none given");
  Cache cache = FLUYT_TRY(Cache::open(options.cache_dir));
  return std::unique_ptr<Network>(
      std::make_unique<CniNetwork>(std::move(options), std::move(cache), logger));
}

}  // namespace fluyt::network
