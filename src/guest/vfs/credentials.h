#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guest/abi/errno.h"
#include "guest/vfs/user_space.h"

namespace fluyt::guest {

/// Who a task acts as (credentials(7)). A value: changed by replacing it. Ids are the kernel's,
/// those of its first user namespace; what programs say and see is translated where it comes in and
/// goes out.
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
  UserSpacePtr user;         // where the capabilities hold; null: the first

  static constexpr uint64_t kAllCapabilities = (uint64_t{1} << 41) - 1;
  /// Effective in its own user namespace.
  bool has(int capability) const { return (effective >> capability & 1) != 0; }
  /// Over what belongs to the first one: the whole sandbox.
  bool can(int capability) const { return !user && has(capability); }
  /// Over what belongs to `space` (user_namespaces(7), "Capabilities"); null: the first.
  bool can_in(int capability, const UserSpace* space) const;
  /// Over a file of these owners: who is not in the user namespace is out of its root's reach.
  bool can_over(int capability, uint32_t of_uid, uint32_t of_gid) const {
    return has(capability) &&
           (!user || (user->uid_of(of_uid) != kNoId && user->gid_of(of_gid) != kNoId));
  }
  bool can_over_owner(int capability, uint32_t of_uid) const {
    return has(capability) && (!user || user->uid_of(of_uid) != kNoId);
  }
  /// Root of its user namespace; kNoId: there is none.
  uint32_t root() const { return user ? user->kernel_uid(0) : 0; }
  /// The kernel's ids as its programs see them.
  uint32_t shown_uid(uint32_t kernel) const { return user ? shown(user->uid_of(kernel)) : kernel; }
  uint32_t shown_gid(uint32_t kernel) const { return user ? shown(user->gid_of(kernel)) : kernel; }
  /// What unshare(2) makes of them in a user namespace that was just made, or setns(2) in another.
  void enter(UserSpacePtr space);

  bool in_group(uint32_t group) const {
    if (group == fsgid) return true;
    for (uint32_t have : groups)
      if (have == group) return true;
    return false;
  }

 private:
  static uint32_t shown(uint32_t inside) { return inside == kNoId ? kNobodyId : inside; }
};

/// SECBIT_*, those that are asked for.
inline constexpr uint32_t kSecureNoRoot = 1, kSecureNoSetuidFixup = 4, kSecureKeepCaps = 16,
                          kSecureKeepCapsLocked = 32, kSecureNoAmbientRaise = 64;

/// Capabilities of a file (capabilities(7)).
struct FileCapabilities {
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
  bool effective = false;
  uint32_t root = 0;  // whose namespaces they are for: its kernel id
};
/// Such an attribute's bytes, with another root; 0 in the form that has none.
std::string with_root(std::string_view attribute, uint32_t root);
/// Whether they are for the user namespace of `who`: their root is its root, or that of one above.
bool applies(const FileCapabilities& capabilities, const Credentials& who);
/// Of the attribute security.capability; none when it is not one that we know.
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
                     kCapFsetid = 4, kCapKill = 5, kCapSetgid = 6, kCapSetuid = 7, kCapSetpcap = 8,
                     kCapNetBindService = 10, kCapNetAdmin = 12, kCapNetRaw = 13,
                     kCapSysChroot = 18, kCapSysPtrace = 19, kCapSysAdmin = 21, kCapSysNice = 23,
                     kCapSysResource = 24, kCapMknod = 27, kCapSetfcap = 31;

}  // namespace fluyt::guest
