#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"

/// CNI, by the specification 1.1 (github.com/containernetworking/cni/blob/main/SPEC.md).
/// Thread-safe; calls for one and the same sandbox are the caller's to put in order. Plugins work
/// in the network namespace of this process: the common ones in it (src/network/builtin), the
/// others as children of it.
namespace fluyt::network {

struct PortMapping {
  std::string protocol;  // tcp, udp, sctp
  uint16_t container_port = 0;
  uint16_t host_port = 0;  // 0: none
  std::string host_ip;
};

struct Dns {  // for plugins with the "dns" capability; empty: not given to them
  std::vector<std::string> servers, searches, options;
};

struct Bandwidth {  // for plugins with the "bandwidth" capability; bits a second, 0: no limit
  uint64_t ingress = 0, egress = 0;
};

struct SandboxNetwork {
  std::string sandbox_id;
  std::string netns_path;
  std::string pod_name, pod_namespace, pod_uid;  // no ';' or '=' in them: CNI_ARGS has no quoting
  std::vector<PortMapping> port_mappings;
  Dns dns;
  std::string cgroup_parent;
  Bandwidth bandwidth;
};

struct Attachment {
  std::vector<std::string>
      ips;  // the first is the primary one; without prefix length; may be empty
  std::string interface = "eth0";
  std::string result_json;  // the last plugin's result, as cached
};

struct Status {
  bool ready = false;
  std::string reason;   // NetworkPluginNotReady, for CRI conditions
  std::string message;  // why, naming folder and file
};

enum class Plugins {
  kBuiltIn,       // in this process where we implement every key of the entry
  kProgramsOnly,  // what was added built in is still checked and deleted that way
};

struct Options {
  std::string conf_dir;               // /etc/cni/net.d
  std::vector<std::string> bin_dirs;  // /opt/cni/bin, /usr/lib/cni
  std::string cache_dir;              // results: written before they are used
  Plugins plugins = Plugins::kBuiltIn;
  /// How many programs do ADD or DEL at once; the others wait. 0: twice the processors.
  size_t programs_at_once = 0;
};

class Network {
 public:
  static Result<std::unique_ptr<Network>> open(Options options, Logger& logger);
  virtual ~Network() = default;
  /// Re-reads the folder when it changed: the first valid conflist (or conf) by name is the
  /// network. Broken files before it are skipped, logged once and named in the message. Where the
  /// network speaks 1.1 its plugins are asked too (STATUS), each for two seconds at most; what they
  /// said holds for ten, and whoever comes while they are being asked gets what was known before.
  virtual Status status() = 0;
  /// ADD of every plugin in order. When one fails, DEL of all of them, then its error. What to DEL
  /// is on disk before the first plugin runs, so after a crash detach() cleans up. A sandbox that
  /// is attached already is kAlreadyExists. A host port that no plugin has the capability for is
  /// kFailedPrecondition.
  virtual Result<Attachment> attach(const SandboxNetwork& sandbox, Deadline deadline) = 0;
  /// CHECK of every plugin, with what ADD was given. Success where the network has disableCheck or
  /// speaks a version before 0.4.0. kNotFound when the sandbox is not attached.
  virtual Result<> check(const SandboxNetwork& sandbox, Deadline deadline) = 0;
  /// DEL in reverse order with the configuration and result that ADD was given (from the cache, so
  /// a changed folder does not matter). Idempotent; a missing namespace is not an error. Goes
  /// through all plugins whatever they say, and one that hangs is given up in time for the others
  /// to have theirs; with an error the cache stays, for the next try.
  virtual Result<> detach(const SandboxNetwork& sandbox, Deadline deadline) = 0;
  /// DEL of every sandbox in the cache that `exists` does not know, then GC of the networks that
  /// speak 1.1 and do not disable it: plugins remove what belongs to no sandbox of ours. Waits for
  /// attach and detach, and they for it. The first failure is the error; the rest is done.
  virtual Result<> collect(const std::function<bool(const std::string& sandbox_id)>& exists,
                           Deadline deadline) = 0;
  /// What collect() would remove, a line each, as far as it is known without running a program.
  virtual Result<std::vector<std::string>> find_leftovers(
      const std::function<bool(const std::string& sandbox_id)>& exists, Deadline deadline) = 0;
};

/// What a device has moved since it is there.
struct InterfaceTraffic {
  std::string name;
  uint64_t rx_bytes = 0;
  uint64_t rx_packets = 0;
  uint64_t rx_errors = 0;
  uint64_t rx_dropped = 0;
  uint64_t tx_bytes = 0;
  uint64_t tx_packets = 0;
  uint64_t tx_errors = 0;
  uint64_t tx_dropped = 0;
  bool operator==(const InterfaceTraffic&) const = default;
};
/// Of every device but `lo` in the namespace at `netns_path`, as the kernel counts: one request, no
/// program is run.
Result<std::vector<InterfaceTraffic>> traffic(const std::string& netns_path);

/// Brings `lo` up in the namespace at `netns_path`.
Result<> loopback_up(const std::string& netns_path);

}  // namespace fluyt::network
