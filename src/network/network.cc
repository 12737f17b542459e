#include "network/network.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <optional>

#include "base/guarded.h"
#include "base/strings.h"
#include "network/builtin/builtin.h"
#include "network/cache.h"
#include "network/config.h"
#include "network/plugin.h"
#include "sys/file.h"

namespace fluyt::network {

namespace {

// Cleaning up after a failure needs time of its own: the deadline may be what failed.
constexpr int64_t kCleanupMs = 30'000;

struct Known {
  std::string fingerprint;
  bool read = false;
  LoadedFolder folder;
  std::string unreadable;  // why the folder could not be read
};

// Whether a path still holds a namespace. A plain file is left where a bind mount was taken away,
// and plugins stumble over it; procfs is how /proc/PID/ns looks on old kernels.
bool is_namespace(const std::string& path) {
  struct statfs fs{};
  if (path.empty() || ::statfs(path.c_str(), &fs) != 0) return false;
  return fs.f_type == NSFS_MAGIC || fs.f_type == PROC_SUPER_MAGIC;
}

std::string list_broken(const std::vector<BrokenFile>& broken) {
  std::string out;
  for (const BrokenFile& file : broken) {
    if (!out.empty()) out += "; ";
    out += cat(file.path, ": ", file.reason);
  }
  return out;
}

class CniNetwork final : public Network {
 public:
  CniNetwork(Options options, Cache cache, Logger& logger)
      : options_(std::move(options)), cache_(std::move(cache)), logger_(logger) {}

  Status status() override;
  Result<Attachment> attach(const SandboxNetwork& sandbox, Deadline deadline) override;
  Result<> check(const SandboxNetwork& sandbox, Deadline deadline) override;
  Result<> detach(const SandboxNetwork& sandbox, Deadline deadline) override;

 private:
  Known reload();
  Result<NetworkConfig> current();
  void choose(NetworkConfig& network);
  Result<std::string> call(Command command, const Record& record, const PluginConfig& plugin,
                           const AttachmentArgs& args, std::string_view previous_result,
                           Deadline deadline);
  Result<PluginResult> add_all(Record& record, Deadline deadline);
  Result<> delete_all(const Record& record, Deadline deadline);
  Result<std::optional<Record>> record_to_delete(const SandboxNetwork& sandbox);

  const Options options_;
  const Cache cache_;
  Logger& logger_;
  Guarded<Known> known_;
  Firewall firewall_;
};

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

Known CniNetwork::reload() {
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

Status CniNetwork::status() {
  auto network = current();
  if (!network.ok()) {
    return {
        .ready = false, .reason = "NetworkPluginNotReady", .message = network.error().message()};
  }
  const Known known = reload();
  Status status{.ready = true, .reason = {}, .message = {}};
  if (!known.folder.broken.empty()) {
    status.message = cat("skipped: ", list_broken(known.folder.broken));
  }
  return status;
}

// CHECK and DEL go to who did ADD: the record says it.
Result<std::string> CniNetwork::call(Command command, const Record& record,
                                     const PluginConfig& plugin, const AttachmentArgs& args,
                                     std::string_view previous_result, Deadline deadline) {
  if (plugin.built_in) {
    return call_built_in(command, record.network, plugin, args, previous_result, firewall_,
                         deadline);
  }
  return call_plugin(command, record.network, plugin, args, previous_result, options_.bin_dirs,
                     deadline);
}

// Runs the chain, `record.result` always being the last result there is.
Result<PluginResult> CniNetwork::add_all(Record& record, Deadline deadline) {
  PluginResult last;
  for (const PluginConfig& plugin : record.network.plugins) {
    const std::string output =
        FLUYT_TRY(call(Command::kAdd, record, plugin, record.args, record.result, deadline));
    last = FLUYT_TRY_CONTEXT(parse_result(output, record.network.version, record.args.interface),
                             cat("plugin ", quote(plugin.type, 64), " ADD"));
    record.result = last.json;
  }
  return last;
}

// The specification halts at the first failure. We go on, since each DEL frees what the others do
// not know of (a lease, a rule), and report the first failure.
Result<> CniNetwork::delete_all(const Record& record, Deadline deadline) {
  AttachmentArgs args = record.args;
  if (!is_namespace(args.netns)) args.netns.clear();
  // prevResult came to DEL with 0.4.0.
  const bool wants_result = !version_before(record.network.version, "0.4.0");
  std::optional<Error> first;
  for (auto plugin = record.network.plugins.rbegin(); plugin != record.network.plugins.rend();
       ++plugin) {
    auto deleted =
        call(Command::kDel, record, *plugin, args, wants_result ? record.result : "", deadline);
    if (deleted.ok()) continue;
    if (!first) {
      first = std::move(deleted).error();
    } else {
      logger_.warn(cat("network ", quote(record.network.name), ", sandbox ", args.container_id,
                       ": ", deleted.error().message()));
    }
  }
  if (first) return std::move(*first).add_context(cat("network ", quote(record.network.name)));
  return {};
}

Result<Attachment> CniNetwork::attach(const SandboxNetwork& sandbox, Deadline deadline) {
  Record record;
  record.network = FLUYT_TRY(current());
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

// A record that a power cut or a full disk broke must not keep a sandbox for ever: then the present
// configuration is the best there is.
Result<std::optional<Record>> CniNetwork::record_to_delete(const SandboxNetwork& sandbox) {
  auto args = FLUYT_TRY(make_args(sandbox));
  auto record = cache_.find(sandbox.sandbox_id);
  if (record.ok()) return record;
  if (record.error().code() != Code::kDataLoss) return record;
  logger_.warn(cat("sandbox ", sandbox.sandbox_id, ": ", record.error().message(),
                   ": DEL with the present network configuration"));
  auto network = current();
  if (!network.ok()) return std::move(record).error();
  Record made{.network = std::move(network).value(), .args = std::move(args)};
  return std::optional(std::move(made));
}

Result<> CniNetwork::detach(const SandboxNetwork& sandbox, Deadline deadline) {
  const auto record = FLUYT_TRY(record_to_delete(sandbox));
  // The record is written before the first ADD: without one nothing was done.
  if (!record) return {};
  FLUYT_TRY(delete_all(*record, deadline));
  return cache_.remove(sandbox.sandbox_id);
}

}  // namespace

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
