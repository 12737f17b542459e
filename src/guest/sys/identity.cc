#include <algorithm>
#include <array>

#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

uint32_t id_of(uint64_t value) { return static_cast<uint32_t>(value); }

/// capabilities(7), "Effect of user ID changes on capabilities".
void adjust_capabilities(Credentials& who, const Credentials& before) {
  if ((before.secure_bits & kSecureNoSetuidFixup) != 0) return;
  const uint32_t root = before.root();
  const bool had_root = before.uid == root || before.euid == root || before.suid == root;
  const bool has_root = who.uid == root || who.euid == root || who.suid == root;
  if (had_root && !has_root) {
    if ((before.secure_bits & kSecureKeepCaps) == 0) who.permitted = who.effective = 0;
    who.ambient = 0;
  }
  if (before.euid == root && who.euid != root) who.effective = 0;
  if (before.euid != root && who.euid == root) who.effective = who.permitted;
}

/// Others look at a task's credentials, its groups among them, with the lock held. Who acts as
/// somebody else from now on may still have in its memory what is not for those (prctl(2),
/// PR_SET_DUMPABLE).
void commit(Task& task, Credentials who) {
  std::lock_guard lock(task.kernel.lock);
  const Credentials& before = task.credentials;
  if (who.euid != before.euid || who.egid != before.egid || who.fsuid != before.fsuid ||
      who.fsgid != before.fsgid || (who.permitted & ~before.permitted) != 0) {
    task.process->dumpable = false;
    task.parent_death_signal = 0;
  }
  task.credentials = std::move(who);
}

/// capabilities(7): what setfsuid(2) takes and gives.
constexpr uint64_t kFileCapabilities =
    uint64_t{1} << kCapChown | uint64_t{1} << kCapDacOverride | uint64_t{1} << kCapDacReadSearch |
    uint64_t{1} << kCapFowner | uint64_t{1} << kCapFsetid | uint64_t{1} << 9 /* LINUX_IMMUTABLE */ |
    uint64_t{1} << kCapMknod | uint64_t{1} << 32 /* MAC_OVERRIDE */;

bool is_one_of(uint32_t id, uint32_t a, uint32_t b, uint32_t c) {
  return id == a || id == b || id == c;
}

/// The kernel's of the first arguments, of which kNoId says that it is to stay. EINVAL: one is
/// nobody's.
template <size_t kCount>
ErrnoOr<std::array<uint32_t, kCount>> kernel_ids(const Task& task, UserSpace::Kind kind,
                                                 Arguments a) {
  std::array<uint32_t, kCount> out{};
  for (size_t i = 0; i < kCount; ++i) {
    const uint32_t asked = id_of(a[i]);
    out[i] = kind == UserSpace::kUsers ? task.kernel_uid(asked) : task.kernel_gid(asked);
    if (asked != kNoId && out[i] == kNoId) return Errno(EINVAL);
  }
  return out;
}

}  // namespace

ErrnoOr<uint64_t> sys_getuid(Task& task, Arguments) {
  return uint64_t{task.credentials.shown_uid(task.credentials.uid)};
}
ErrnoOr<uint64_t> sys_geteuid(Task& task, Arguments) {
  return uint64_t{task.credentials.shown_uid(task.credentials.euid)};
}
ErrnoOr<uint64_t> sys_getgid(Task& task, Arguments) {
  return uint64_t{task.credentials.shown_gid(task.credentials.gid)};
}
ErrnoOr<uint64_t> sys_getegid(Task& task, Arguments) {
  return uint64_t{task.credentials.shown_gid(task.credentials.egid)};
}

ErrnoOr<uint64_t> sys_setuid(Task& task, Arguments a) {
  const Credentials before = task.credentials;
  Credentials who = before;
  const uint32_t id = task.kernel_uid(id_of(a[0]));
  if (id == kNoId) return Errno(EINVAL);
  if (who.has(kCapSetuid))
    who.uid = who.suid = id;
  else if (id != who.uid && id != who.suid)
    return Errno(EPERM);
  who.euid = who.fsuid = id;
  adjust_capabilities(who, before);
  commit(task, std::move(who));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_setgid(Task& task, Arguments a) {
  Credentials who = task.credentials;
  const uint32_t id = task.kernel_gid(id_of(a[0]));
  if (id == kNoId) return Errno(EINVAL);
  if (who.has(kCapSetgid))
    who.gid = who.sgid = id;
  else if (id != who.gid && id != who.sgid)
    return Errno(EPERM);
  who.egid = who.fsgid = id;
  commit(task, std::move(who));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_setresuid(Task& task, Arguments a) {
  const Credentials before = task.credentials;
  Credentials who = before;
  const auto ids = GUEST_TRY(kernel_ids<3>(task, UserSpace::kUsers, a));
  for (const uint32_t id : ids)
    if (id != kNoId && !who.has(kCapSetuid) && !is_one_of(id, who.uid, who.euid, who.suid))
      return Errno(EPERM);
  if (ids[0] != kNoId) who.uid = ids[0];
  if (ids[1] != kNoId) who.euid = ids[1];
  if (ids[2] != kNoId) who.suid = ids[2];
  who.fsuid = who.euid;
  adjust_capabilities(who, before);
  commit(task, std::move(who));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_setresgid(Task& task, Arguments a) {
  Credentials who = task.credentials;
  const auto ids = GUEST_TRY(kernel_ids<3>(task, UserSpace::kGroups, a));
  for (const uint32_t id : ids)
    if (id != kNoId && !who.has(kCapSetgid) && !is_one_of(id, who.gid, who.egid, who.sgid))
      return Errno(EPERM);
  if (ids[0] != kNoId) who.gid = ids[0];
  if (ids[1] != kNoId) who.egid = ids[1];
  if (ids[2] != kNoId) who.sgid = ids[2];
  who.fsgid = who.egid;
  commit(task, std::move(who));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_setreuid(Task& task, Arguments a) {
  const Credentials before = task.credentials;
  Credentials who = before;
  const auto [real, effective] = GUEST_TRY(kernel_ids<2>(task, UserSpace::kUsers, a));
  if (real != kNoId && !who.has(kCapSetuid) && real != who.uid && real != who.euid)
    return Errno(EPERM);
  if (effective != kNoId && !who.has(kCapSetuid) &&
      !is_one_of(effective, who.uid, who.euid, who.suid))
    return Errno(EPERM);
  if (real != kNoId) who.uid = real;
  if (effective != kNoId) who.euid = effective;
  if (real != kNoId || (effective != kNoId && effective != before.uid)) who.suid = who.euid;
  who.fsuid = who.euid;
  adjust_capabilities(who, before);
  commit(task, std::move(who));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_setregid(Task& task, Arguments a) {
  const Credentials before = task.credentials;
  Credentials who = before;
  const auto [real, effective] = GUEST_TRY(kernel_ids<2>(task, UserSpace::kGroups, a));
  if (real != kNoId && !who.has(kCapSetgid) && real != who.gid && real != who.egid)
    return Errno(EPERM);
  if (effective != kNoId && !who.has(kCapSetgid) &&
      !is_one_of(effective, who.gid, who.egid, who.sgid))
    return Errno(EPERM);
  if (real != kNoId) who.gid = real;
  if (effective != kNoId) who.egid = effective;
  if (real != kNoId || (effective != kNoId && effective != before.gid)) who.sgid = who.egid;
  who.fsgid = who.egid;
  commit(task, std::move(who));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_getresuid(Task& task, Arguments a) {
  const Credentials& who = task.credentials;
  GUEST_TRY(task.put(a[0], who.shown_uid(who.uid)));
  GUEST_TRY(task.put(a[1], who.shown_uid(who.euid)));
  GUEST_TRY(task.put(a[2], who.shown_uid(who.suid)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_getresgid(Task& task, Arguments a) {
  const Credentials& who = task.credentials;
  GUEST_TRY(task.put(a[0], who.shown_gid(who.gid)));
  GUEST_TRY(task.put(a[1], who.shown_gid(who.egid)));
  GUEST_TRY(task.put(a[2], who.shown_gid(who.sgid)));
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_setfsuid(Task& task, Arguments a) {
  Credentials who = task.credentials;
  const uint32_t before = who.fsuid;
  const uint32_t id = task.kernel_uid(id_of(a[0]));
  if (id != kNoId &&
      (who.has(kCapSetuid) || id == before || is_one_of(id, who.uid, who.euid, who.suid))) {
    who.fsuid = id;
    // Root's power over files comes and goes with root's id for them.
    const uint32_t root = who.root();
    if ((who.secure_bits & kSecureNoSetuidFixup) == 0) {
      if (before == root && id != root) who.effective &= ~kFileCapabilities;
      if (before != root && id == root) who.effective |= who.permitted & kFileCapabilities;
    }
    commit(task, std::move(who));
  }
  return uint64_t{task.credentials.shown_uid(before)};
}

ErrnoOr<uint64_t> sys_setfsgid(Task& task, Arguments a) {
  Credentials who = task.credentials;
  const uint32_t before = who.fsgid;
  const uint32_t id = task.kernel_gid(id_of(a[0]));
  if (id != kNoId &&
      (who.has(kCapSetgid) || id == before || is_one_of(id, who.gid, who.egid, who.sgid))) {
    who.fsgid = id;
    commit(task, std::move(who));
  }
  return uint64_t{task.credentials.shown_gid(before)};
}

ErrnoOr<uint64_t> sys_getgroups(Task& task, Arguments a) {
  std::vector<uint32_t> groups = task.credentials.groups;
  const int room = as_int(a[0]);
  if (room < 0) return Errno(EINVAL);
  if (room == 0) return uint64_t{groups.size()};
  if (static_cast<size_t>(room) < groups.size()) return Errno(EINVAL);
  for (uint32_t& group : groups) group = task.credentials.shown_gid(group);
  GUEST_TRY(task.copy_out(a[1], std::as_bytes(std::span(groups))));
  return uint64_t{groups.size()};
}

ErrnoOr<uint64_t> sys_setgroups(Task& task, Arguments a) {
  constexpr uint64_t kMaxGroups = 65536;
  const auto count = static_cast<uint32_t>(a[0]);
  const UserSpacePtr& user = task.credentials.user;
  if (!task.credentials.has(kCapSetgid) || (user && !user->may_set_groups())) return Errno(EPERM);
  if (count > kMaxGroups) return Errno(EINVAL);
  std::vector<uint32_t> groups(count);
  GUEST_TRY(task.copy_in(a[1], std::as_writable_bytes(std::span(groups))));
  for (uint32_t& group : groups) {
    group = task.kernel_gid(group);
    if (group == kNoId) return Errno(EINVAL);
  }
  std::sort(groups.begin(), groups.end());
  Credentials who = task.credentials;
  who.groups = std::move(groups);
  commit(task, std::move(who));
  return uint64_t{0};
}

namespace {
struct CapHeader {
  uint32_t version;
  int32_t pid;
};
struct CapData {
  uint32_t effective;
  uint32_t permitted;
  uint32_t inheritable;
};
constexpr uint32_t kVersion1 = 0x19980330;
constexpr uint32_t kVersion2 = 0x20071026;
constexpr uint32_t kVersion3 = 0x20080522;

/// The number of CapData, or EINVAL with the version that we have written back.
ErrnoOr<int> cap_words(Task& task, uint64_t address, CapHeader& header) {
  header = GUEST_TRY(task.get<CapHeader>(address));
  if (header.version == kVersion1) return 1;
  if (header.version == kVersion2 || header.version == kVersion3) return 2;
  CapHeader ours = header;
  ours.version = kVersion3;
  GUEST_TRY(task.put(address, ours));
  return Errno(EINVAL);
}
}  // namespace

ErrnoOr<uint64_t> sys_capget(Task& task, Arguments a) {
  CapHeader header{};
  const ErrnoOr<int> words = cap_words(task, a[0], header);
  if (!words.ok()) {
    if (a[1] == 0 && words.error().value() == EINVAL) return uint64_t{0};
    return words.error();
  }
  Credentials who = task.credentials;
  if (header.pid < 0) return Errno(EINVAL);
  if (header.pid != 0 && header.pid != task.number) {
    std::lock_guard lock(task.kernel.lock);
    const auto found = task.kernel.tasks.find(task.meant(header.pid));
    if (found == task.kernel.tasks.end()) return Errno(ESRCH);
    who = found->second->credentials;
  }
  if (a[1] == 0) return uint64_t{0};
  for (int i = 0; i < words.value(); ++i) {
    const int shift = 32 * i;
    const CapData data{static_cast<uint32_t>(who.effective >> shift),
                       static_cast<uint32_t>(who.permitted >> shift),
                       static_cast<uint32_t>(who.inheritable >> shift)};
    GUEST_TRY(task.put(a[1] + static_cast<uint64_t>(i) * sizeof data, data));
  }
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_capset(Task& task, Arguments a) {
  CapHeader header{};
  const int words = GUEST_TRY(cap_words(task, a[0], header));
  if (header.pid != 0 && header.pid != task.number) return Errno(EPERM);
  uint64_t effective = 0;
  uint64_t permitted = 0;
  uint64_t inheritable = 0;
  for (int i = 0; i < words; ++i) {
    const CapData data =
        GUEST_TRY(task.get<CapData>(a[1] + static_cast<uint64_t>(i) * sizeof(CapData)));
    effective |= uint64_t{data.effective} << (32 * i);
    permitted |= uint64_t{data.permitted} << (32 * i);
    inheritable |= uint64_t{data.inheritable} << (32 * i);
  }
  Credentials& who = task.credentials;
  if ((permitted & ~who.permitted) != 0 || (effective & ~permitted) != 0) return Errno(EPERM);
  if (!who.has(kCapSetpcap) && (inheritable & ~(who.inheritable | who.permitted)) != 0)
    return Errno(EPERM);
  if ((inheritable & ~(who.inheritable | who.bounding)) != 0) return Errno(EPERM);
  who.effective = effective;
  who.permitted = permitted;
  who.inheritable = inheritable;
  who.ambient &= permitted & inheritable;
  return uint64_t{0};
}

}  // namespace fluyt::guest
