#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

/// Who a container runs as: the only place that reads users, groups and ids from images and
/// callers.
namespace fluyt::spec {

/// The image's /etc/passwd and /etc/group, empty where there is none. Hostile: at most
/// kMaxUserFileBytes each is looked at, and a line that is not well-formed is passed over.
struct UserFiles {
  std::string passwd;
  std::string group;
};
inline constexpr size_t kMaxUserFileBytes = 1UL << 20U;
inline constexpr uint32_t kMaxId = 0x7FFFFFFE;  // 2^31 - 2
inline constexpr size_t kMaxGroups = 65536;     // NGROUPS_MAX

enum class GroupsPolicy {
  kMerge,   // the groups that the image's /etc/group gives the user, and those asked for
  kStrict,  // those asked for alone
};

/// CRI's run_as_*. All left out: the image's user.
struct UserRequest {
  std::optional<int64_t> run_as_user;
  std::optional<int64_t> run_as_group;
  std::string run_as_username;
  std::vector<int64_t> supplemental_groups;
  GroupsPolicy groups_policy = GroupsPolicy::kMerge;
};

struct Identity {
  uint32_t uid = 0;
  uint32_t gid = 0;
  /// Supplementary groups, sorted: the primary is always among them (the CVE-2022-2995 class: a
  /// process that has no supplementary groups keeps its parent's rights by a file's group bits).
  std::vector<uint32_t> groups;
  std::string home = "/";  // absolute, without control characters
  bool operator==(const Identity&) const = default;
};

/// `user[:group]`, as images and Docker write it, "" for root. Digits alone are an id and nothing
/// else, whatever the files say; a name must be in the files. Without a group, the user's own from
/// passwd, else 0.
Result<Identity> resolve_user(std::string_view text, const UserFiles& files);

/// CRI's request over the image's user.
Result<Identity> resolve_user(const UserRequest& request, std::string_view image_user,
                              const UserFiles& files);

}  // namespace fluyt::spec
