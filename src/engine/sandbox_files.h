#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/config.h"

/// The files that every container of a sandbox sees, and its shared memory, in the sandbox's
/// folder.
namespace fluyt::engine {

/// resolv.conf as `dns` says it.
std::string resolv_conf(const DnsConfig& dns);
/// /etc/hosts of a pod: localhost, and its own name on its addresses.
std::string pod_hosts(const std::string& hostname, const std::vector<std::string>& ips);

inline constexpr std::array<std::string_view, 3> kSandboxFiles = {"resolv.conf", "hosts",
                                                                  "hostname"};
/// Writes resolv.conf, hosts and hostname below `dir`. A host-network sandbox gets the host's
/// hosts; one without DNS settings the host's resolv.conf as it is now. They belong to root, of the
/// sandbox's user namespace where it has one.
Result<> write_sandbox_files(const std::string& dir, const SandboxConfig& config,
                             const std::string& hostname, const std::vector<std::string>& ips);

inline constexpr const char* kShmSize = "64m";
/// Mounts a tmpfs on dir/shm; its root belongs to `users`' root, and its files have the SELinux
/// label `label`, where that is not empty.
Result<> mount_shm(const std::string& dir, const std::optional<UserIds>& users,
                   const std::string& label);
/// Takes it away; none there is success.
Result<> unmount_shm(const std::string& dir);

/// The host's name, for a sandbox that was given none.
Result<std::string> host_name();

}  // namespace fluyt::engine
