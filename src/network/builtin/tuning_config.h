#pragma once

#include <optional>
#include <string>
#include <vector>

#include "network/builtin/builtin.h"

/// A "tuning" entry as a value, and what it keeps on disk: how the device was before, in the
/// program's own files and form.
namespace fluyt::network::builtin {

struct DeviceTuning {
  std::string mac;  // bytes; empty: as it is
  std::optional<bool> promiscuous, all_multicast;
  std::optional<uint32_t> mtu, queue_length;
  bool operator==(const DeviceTuning&) const = default;
};

struct TuningConfig {
  struct Sysctl {
    std::string key;   // as written
    std::string file;  // below /proc/sys/net
    std::string value;
  };
  std::vector<Sysctl> sysctls;
  DeviceTuning device;
  std::string folder;
};

/// IFNAME in a sysctl's key is the sandbox's device. Errors name the field.
Result<TuningConfig> parse_tuning(const Json& request, const std::string& device);

Result<> keep(const TuningConfig& config, const Call& call, const DeviceTuning& before);
/// Nothing when nothing was kept.
Result<std::optional<DeviceTuning>> find_kept(const TuningConfig& config, const Call& call);
Result<> forget_kept(const TuningConfig& config, const Call& call);

}  // namespace fluyt::network::builtin
