#include <algorithm>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include "base/strings.h"
#include "network/cni_network.h"
#include "network/plugin.h"

namespace fluyt::network {

namespace {

bool collects(const NetworkConfig& network) {
  return !network.disable_gc && !version_before(network.version, "1.1.0");
}

void keep_first(std::optional<Error>& first, Result<> result) {
  if (!result.ok() && !first) first = std::move(result).error();
}

}  // namespace

Result<> CniNetwork::collect_network(const NetworkConfig& network,
                                     const std::vector<Record>& records,
                                     std::vector<std::string>* leftovers, Deadline deadline) {
  std::vector<AttachmentName> valid;
  std::set<std::string> attached;
  for (const Record& record : records) {
    attached.insert(cat(record.args.container_id, "/", record.args.interface));
    const bool of_it = record.network.name.empty() || record.network.name == network.name;
    if (of_it) valid.push_back({record.args.container_id, record.args.interface});
  }
  std::optional<Error> first;
  size_t left = network.plugins.size();
  for (const PluginConfig& plugin : network.plugins) {
    if (leftovers != nullptr && !plugin.built_in) continue;
    auto request = FLUYT_TRY(make_gc_request(network, plugin, valid));
    const PluginCall what{.command = Command::kGc,
                          .type = plugin.type,
                          .request = std::move(request),
                          .args = {},
                          .deadline = part_of(deadline, left--),
                          .leftovers = leftovers,
                          .attached = attached};
    auto done =
        plugin.built_in ? call_built_in(what, firewall_) : call_program(what, options_.bin_dirs);
    if (!done.ok()) {
      keep_first(first, std::move(done).error().add_context(cat("network ", quote(network.name))));
    }
  }
  if (first) return *first;
  return {};
}

Result<> CniNetwork::collect(const std::function<bool(const std::string&)>& exists,
                             Deadline deadline) {
  return collect_or_tell(exists, nullptr, deadline);
}

Result<std::vector<std::string>> CniNetwork::find_leftovers(
    const std::function<bool(const std::string&)>& exists, Deadline deadline) {
  std::vector<std::string> out;
  FLUYT_TRY(collect_or_tell(exists, &out, deadline));
  return out;
}

Result<> CniNetwork::collect_or_tell(const std::function<bool(const std::string&)>& exists,
                                     std::vector<std::string>* leftovers, Deadline deadline) {
  const std::unique_lock collecting(collecting_);
  std::optional<Error> first;
  std::vector<Record> records;
  for (const std::string& id : FLUYT_TRY(cache_.list())) {
    auto record = cache_.find(id);
    if (exists(id)) {
      // What cannot be read may be of any network.
      Record unreadable;
      unreadable.args.container_id = id;
      records.push_back(record.ok() && *record ? std::move(**record) : std::move(unreadable));
      continue;
    }
    if (leftovers != nullptr) {
      leftovers->push_back(cat("attachment of sandbox ", id));
      continue;
    }
    logger_.warn(cat("network: sandbox ", quote(id), " is no more and was attached still: DEL"));
    SandboxNetwork gone;
    gone.sandbox_id = id;
    auto owed = record_to_delete(gone);
    if (!owed.ok()) {
      keep_first(first, std::move(owed).error());
    } else if (*owed) {
      keep_first(first, detach_recorded(**owed, part_of(deadline, 2)));
    }
  }
  // The present network, and those that sandboxes of before a change are attached to.
  std::vector<NetworkConfig> networks;
  if (auto network = current(); network.ok()) networks.push_back(std::move(network).value());
  for (const Record& record : records) {
    const bool have = std::any_of(networks.begin(), networks.end(), [&](const auto& network) {
      return network.name == record.network.name;
    });
    if (!have && !record.network.name.empty()) networks.push_back(record.network);
  }
  for (const NetworkConfig& network : networks) {
    if (collects(network))
      keep_first(first, collect_network(network, records, leftovers, deadline));
  }
  if (first) return *first;
  return {};
}

}  // namespace fluyt::network
