#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"

/// CNI, by the specification 1.1 (github.com/containernetworking/cni/blob/main/SPEC.md). Thread-safe.
namespace fluyt::network {

struct PortMapping {
  std::string protocol;  // tcp, udp, sctp
  uint16_t container_port = 0;
  uint16_t host_port = 0;  // 0: none
  std::string host_ip;
};

struct SandboxNetwork {
  std::string sandbox_id;
  std::string netns_path;
  std::string pod_name, pod_namespace, pod_uid;
  std::vector<PortMapping> port_mappings;
  std::string cgroup_parent;
};

struct Attachment {
  std::vector<std::string> ips;  // the first is the primary one; without prefix length
  std::string interface = "eth0";
  std::string result_json;  // the last plugin's result, as cached
};

struct Status {
  bool ready = false;
  std::string reason;   // NetworkPluginNotReady, for CRI conditions
  std::string message;  // why, naming folder and file
};

struct Options {
  std::string conf_dir;               // /etc/cni/net.d
  std::vector<std::string> bin_dirs;  // /opt/cni/bin, /usr/lib/cni
  std::string cache_dir;              // results: written before they are used
};

class Network {
 public:
  static Result<std::unique_ptr<Network>> open(Options options, Logger& logger);
  virtual ~Network() = default;
  /// Re-reads the folder when it changed: the first valid conflist (or conf) by name is the network.
  virtual Status status() = 0;
  /// ADD of every plugin in order. When one fails, DEL of all of them, then its error.
  virtual Result<Attachment> attach(const SandboxNetwork& sandbox, Deadline deadline) = 0;
  virtual Result<> check(const SandboxNetwork& sandbox, Deadline deadline) = 0;
  /// DEL in reverse order with the configuration and result that ADD was given (from the cache, so a
  /// changed folder does not matter). Idempotent; a missing namespace is not an error.
  virtual Result<> detach(const SandboxNetwork& sandbox, Deadline deadline) = 0;
};

/// Brings `lo` up in the namespace at `netns_path`.
Result<> loopback_up(const std::string& netns_path);

}  // namespace fluyt::network
