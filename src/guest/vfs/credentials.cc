#include "guest/vfs/credentials.h"

#include <sys/stat.h>

namespace fluyt::guest {

std::optional<FileCapabilities> read_file_capabilities(std::string_view attribute) {
  // struct vfs_cap_data, little endian.
  constexpr uint32_t kVersion1 = 0x01000000, kVersion2 = 0x02000000, kVersion3 = 0x03000000;
  constexpr uint32_t kEffective = 1;
  const auto word = [&](size_t index) {
    uint32_t out = 0;
    for (size_t i = 0; i < 4; ++i)
      out |= uint32_t{static_cast<unsigned char>(attribute[4 * index + i])} << (8 * i);
    return out;
  };
  if (attribute.size() < 4) return std::nullopt;
  const uint32_t magic = word(0);
  const uint32_t version = magic & 0xff000000;
  const size_t words = version == kVersion1   ? 3
                       : version == kVersion2 ? 5
                       : version == kVersion3 ? 6
                                              : 0;
  if (words == 0 || attribute.size() != 4 * words) return std::nullopt;
  FileCapabilities out;
  if (version == kVersion3) out.root = word(5);
  out.effective = (magic & kEffective) != 0;
  out.permitted = word(1);
  out.inheritable = word(2);
  if (version != kVersion1) {
    out.permitted |= uint64_t{word(3)} << 32;
    out.inheritable |= uint64_t{word(4)} << 32;
  }
  out.permitted &= Credentials::kAllCapabilities;
  out.inheritable &= Credentials::kAllCapabilities;
  return out;
}

std::string with_root(std::string_view attribute, uint32_t root) {
  constexpr uint32_t kVersion2 = 0x02000000, kVersion3 = 0x03000000;
  constexpr size_t kSize2 = 20;
  std::string out(attribute);
  out.resize(kSize2);  // what version 1 lacks is zeros
  out[3] = static_cast<char>((root == 0 ? kVersion2 : kVersion3) >> 24);
  for (int shift = 0; root != 0 && shift < 32; shift += 8)
    out += static_cast<char>(root >> shift & 0xff);
  return out;
}

bool applies(const FileCapabilities& capabilities, const Credentials& who) {
  for (const UserSpace* at = who.user.get(); at != nullptr; at = at->above.get())
    if (at->uid_of(capabilities.root) == 0) return true;
  return capabilities.root == 0;
}

bool Credentials::can_in(int capability, const UserSpace* space) const {
  const UserSpace* own = user.get();
  const int own_depth = own != nullptr ? own->depth : 0;
  for (const UserSpace* at = space; at != own; at = at->above.get()) {
    if (at == nullptr || at->depth <= own_depth) return false;
    if (at->above.get() == own && at->owner == euid) return true;
  }
  return has(capability);
}

void Credentials::enter(UserSpacePtr space) {
  user = std::move(space);
  secure_bits = 0;
  inheritable = ambient = 0;
  permitted = effective = bounding = kAllCapabilities;
}

ErrnoOr<Credentials> over_exec(Credentials who, const ExecFile& file, bool& secure) {
  secure = false;
  const uint32_t root = who.root();
  const bool was_root = who.uid == root;
  // A file of somebody who is not in the user namespace makes nobody that one.
  const bool is_known =
      !who.user || (who.user->uid_of(file.uid) != kNoId && who.user->gid_of(file.gid) != kNoId);
  if (file.changes_ids && is_known) {
    if ((file.mode & S_ISUID) != 0) who.euid = file.uid;
    if ((file.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) who.egid = file.gid;
  }
  // Whoever made it so: this program, or the one that executes it.
  secure = who.euid != who.uid || who.egid != who.gid;
  // Without SECBIT_NOROOT root's programs count as if they had every capability.
  const bool root_counts = (who.secure_bits & kSecureNoRoot) == 0;
  const bool as_root = root_counts && (who.euid == root || who.uid == root);
  who.suid = who.fsuid = who.euid;
  who.sgid = who.fsgid = who.egid;
  const bool has_own =
      file.changes_ids && file.capabilities.has_value() && applies(*file.capabilities, who);
  if (secure || has_own) who.ambient = 0;
  // Those of the file are all that a set-user-id file of root's has for others; root needs none.
  const bool counts_as_root = as_root && !(has_own && !was_root && who.euid == root);
  if (counts_as_root) {
    who.permitted = who.bounding | who.inheritable | who.ambient;
    who.effective = who.euid == root ? who.permitted : who.ambient;
  } else if (has_own) {
    const FileCapabilities& own = *file.capabilities;
    who.permitted = (own.permitted & who.bounding) | (own.inheritable & who.inheritable);
    // A program that expects them at once would not look whether it has them.
    if (own.effective && (own.permitted & ~who.permitted) != 0) return Errno(EPERM);
    who.effective = own.effective ? who.permitted : 0;
    if (!was_root && (own.effective || who.permitted != 0)) secure = true;
  } else {
    who.permitted = who.effective = who.ambient;
  }
  who.secure_bits &= ~kSecureKeepCaps;
  return who;
}

}  // namespace fluyt::guest
