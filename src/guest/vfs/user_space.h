#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "guest/abi/errno.h"

namespace fluyt::guest {

inline constexpr uint32_t kNoId = ~0U;        // what no id is; "leave it" in system calls
inline constexpr uint32_t kNobodyId = 65534;  // /proc/sys/kernel/overflowuid and overflowgid

/// user_namespaces(7), "User and group ID mappings": ids of one namespace and what they are above.
class IdMap {
 public:
  static constexpr size_t kMostExtents = 340;
  struct Extent {
    uint32_t inside = 0;
    uint32_t outside = 0;
    uint32_t count = 0;
    bool operator==(const Extent&) const = default;
  };
  IdMap() = default;
  explicit IdMap(std::vector<Extent> extents) : extents_(std::move(extents)) {}
  /// A text of lines of three numbers, as written to uid_map or gid_map. EINVAL: it is none, says
  /// nothing, has over kMostExtents lines, or some of them overlap.
  static ErrnoOr<IdMap> parse(std::string_view text);

  bool is_empty() const { return extents_.empty(); }
  const std::vector<Extent>& extents() const { return extents_; }
  /// What `inside` is outside; kNoId: nothing.
  uint32_t down(uint32_t inside) const { return down(inside, 1); }
  /// The first of `count` ids that one extent has all of.
  uint32_t down(uint32_t inside, uint32_t count) const;
  uint32_t up(uint32_t outside) const;
  /// With what the outer ids are further out; nothing where one of them is nothing there.
  std::optional<IdMap> within(const IdMap& outer) const;
  /// Lines as uid_map is read.
  std::string describe() const;

 private:
  std::vector<Extent> extents_;
};

/// user_namespaces(7). The kernel speaks of the ids of its first namespace alone, for which a null
/// UserSpace stands; every other one has numbers of its own for some of them. The maps are set
/// once and may be asked for anywhere.
class UserSpace {
 public:
  static constexpr int kDeepest = 33;
  /// `owns` and `of_group` are who makes it; `sets_file_capabilities`: that one had CAP_SETFCAP.
  UserSpace(std::shared_ptr<UserSpace> within, uint64_t number_shown, uint32_t owns,
            uint32_t of_group, bool sets_file_capabilities);
  UserSpace(const UserSpace&) = delete;
  UserSpace& operator=(const UserSpace&) = delete;

  const std::shared_ptr<UserSpace> above;  // null: the first
  const int depth;                         // the first's is 0
  const uint64_t inode_number;             // as /proc shows it
  const uint32_t owner, group;
  const bool maker_set_file_capabilities;

  /// The kernel's id of one of this namespace's; kNoId: it stands for nobody.
  uint32_t kernel_uid(uint32_t inside) const { return down(kUsers, inside); }
  uint32_t kernel_gid(uint32_t inside) const { return down(kGroups, inside); }
  /// What of this namespace stands for the kernel's id; kNoId: nothing.
  uint32_t uid_of(uint32_t kernel) const { return up(kUsers, kernel); }
  uint32_t gid_of(uint32_t kernel) const { return up(kGroups, kernel); }

  enum Kind : uint8_t { kUsers, kGroups };
  /// Of ids of the kernel; null until it is set.
  const IdMap* map(Kind of) const { return maps_[of].seen.load(std::memory_order_acquire); }
  /// EPERM: it is set already.
  Errno set_map(Kind of, IdMap to);
  bool may_set_groups() const { return allows_groups_.load() && map(kGroups) != nullptr; }
  bool allows_groups() const { return allows_groups_.load(); }
  /// The file setgroups. EPERM: what was denied is to be allowed, or a map of groups is there.
  Errno set_allows_groups(bool allowed);

  /// Whether it is `other` or lies somewhere below it; null is the first.
  static bool is_within(const UserSpace* space, const UserSpace* other);

 private:
  uint32_t down(Kind of, uint32_t id) const {
    const IdMap* known = map(of);
    return known != nullptr ? known->down(id) : kNoId;
  }
  uint32_t up(Kind of, uint32_t id) const {
    const IdMap* known = map(of);
    return known != nullptr ? known->up(id) : kNoId;
  }
  struct Map {
    std::unique_ptr<const IdMap> own;  // never replaced
    std::atomic<const IdMap*> seen{nullptr};
  };
  std::mutex mutex_;  // nothing is taken behind it
  std::array<Map, 2> maps_;
  std::atomic<bool> allows_groups_;
};
using UserSpacePtr = std::shared_ptr<UserSpace>;

}  // namespace fluyt::guest
