#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "guest/abi/errno.h"

namespace fluyt::guest {

/// Who a task acts as (credentials(7)). A value: changed by replacing it.
struct Credentials {
  uint32_t uid = 0, euid = 0, suid = 0, fsuid = 0;
  uint32_t gid = 0, egid = 0, sgid = 0, fsgid = 0;
  std::vector<uint32_t> groups;
  uint64_t permitted = kAllCapabilities;
  uint64_t effective = kAllCapabilities;
  uint64_t inheritable = 0;
  uint64_t bounding = kAllCapabilities;
  uint64_t ambient = 0;
  uint32_t secure_bits = 0;  // SECBIT_*

  static constexpr uint64_t kAllCapabilities = (uint64_t{1} << 41) - 1;
  bool can(int capability) const { return (effective >> capability & 1) != 0; }
  bool in_group(uint32_t group) const {
    if (group == fsgid) return true;
    for (uint32_t have : groups)
      if (have == group) return true;
    return false;
  }
};

/// SECBIT_*, those that are asked for.
inline constexpr uint32_t kSecureNoRoot = 1, kSecureNoSetuidFixup = 4, kSecureKeepCaps = 16,
                          kSecureKeepCapsLocked = 32, kSecureNoAmbientRaise = 64;

/// Capabilities of a file (capabilities(7)).
struct FileCapabilities {
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
  bool effective = false;
};
/// Of the attribute security.capability; none when it is not one that we know, or one for another
/// user namespace.
std::optional<FileCapabilities> read_file_capabilities(std::string_view attribute);

struct ExecFile {
  uint32_t mode = 0, uid = 0, gid = 0;
  // Set-user-id and set-group-id bits and capabilities count.
  bool changes_ids = true;
  std::optional<FileCapabilities> capabilities;
};
/// What execve(2) makes of them (capabilities(7)); `secure` is AT_SECURE. EPERM: the file is to
/// have capabilities at once that it cannot get.
ErrnoOr<Credentials> over_exec(Credentials who, const ExecFile& file, bool& secure);

/// capabilities(7), those that are asked for.
inline constexpr int kCapChown = 0, kCapDacOverride = 1, kCapDacReadSearch = 2, kCapFowner = 3,
                     kCapKill = 5, kCapSetgid = 6, kCapSetuid = 7, kCapSetpcap = 8,
                     kCapSysChroot = 18, kCapNetBindService = 10, kCapNetAdmin = 12,
                     kCapNetRaw = 13, kCapSysAdmin = 21, kCapSysNice = 23, kCapSysResource = 24,
                     kCapMknod = 27;

}  // namespace fluyt::guest
