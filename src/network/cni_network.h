#pragma once

#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>

#include "base/guarded.h"
#include "network/builtin/firewall.h"
#include "network/cache.h"
#include "network/config.h"
#include "network/network.h"
#include "network/result.h"
#include "network/turns.h"

/// The body of Network, a file a verb.
namespace fluyt::network {

class CniNetwork final : public Network {
 public:
  CniNetwork(Options options, Cache cache, Logger& logger)
      : options_(std::move(options)),
        cache_(std::move(cache)),
        logger_(logger),
        turns_(options_.programs_at_once == 0 ? Turns::for_this_machine()
                                              : options_.programs_at_once) {}

  Status status() override;
  Result<Attachment> attach(const SandboxNetwork& sandbox, Deadline deadline) override;
  Result<> check(const SandboxNetwork& sandbox, Deadline deadline) override;
  Result<> detach(const SandboxNetwork& sandbox, Deadline deadline) override;
  Result<> collect(const std::function<bool(const std::string&)>& exists,
                   Deadline deadline) override;
  Result<std::vector<std::string>> find_leftovers(
      const std::function<bool(const std::string&)>& exists, Deadline deadline) override;

 private:
  struct Known {
    std::string fingerprint;
    bool read = false;
    LoadedFolder folder;
    std::string unreadable;  // why the folder could not be read
  };
  struct Asked {
    std::string fingerprint;  // of the configuration that it is about
    int64_t at_ns = 0;        // boot time; 0: never
    bool under_way = false;
    std::string trouble;  // what the plugins said; empty: nothing
  };

  Known reload();
  Result<NetworkConfig> current();
  void choose(NetworkConfig& network);
  /// Once more for what depends on the host's state.
  Result<> choose_now(NetworkConfig& network);
  /// CHECK, DEL and GC go to who did ADD.
  Result<std::string> call(Command command, const Record& record, const PluginConfig& plugin,
                           const AttachmentArgs& args, std::string_view previous_result,
                           Deadline deadline);
  /// None where it is built in.
  Result<std::optional<Turns::Turn>> take_turn(const PluginConfig& plugin, Deadline deadline);
  Result<PluginResult> add_all(Record& record, Deadline deadline);
  Result<> delete_all(const Record& record, Deadline deadline);
  Result<std::optional<Record>> record_to_delete(const SandboxNetwork& sandbox);
  std::string trouble_of_plugins(const NetworkConfig& network, const std::string& fingerprint);
  Result<> ask_plugins(const NetworkConfig& network);
  Result<> detach_recorded(const Record& record, Deadline deadline);
  /// With `leftovers`, which is told of it, everything stays.
  Result<> collect_or_tell(const std::function<bool(const std::string&)>& exists,
                           std::vector<std::string>* leftovers, Deadline deadline);
  Result<> collect_network(const NetworkConfig& network, const std::vector<Record>& records,
                           std::vector<std::string>* leftovers, Deadline deadline);

  const Options options_;
  const Cache cache_;
  Logger& logger_;
  Guarded<Known> known_;
  Guarded<Asked> asked_;
  Guarded<std::string> why_not_now_;  // as last logged
  Firewall firewall_;
  Turns turns_;  // of ADD and DEL by programs
  // Shared by attach and detach, alone in collect: what is being added must not look left over.
  std::shared_mutex collecting_;
};

/// Whether a path still holds a namespace. A plain file is left where a bind mount was taken away,
/// and plugins stumble over it.
bool is_namespace(const std::string& path);
/// What is still to come gets an equal part each of what is left until `deadline`.
Deadline part_of(Deadline deadline, size_t parts);

}  // namespace fluyt::network
