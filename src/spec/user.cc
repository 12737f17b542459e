#include "spec/user.h"

#include <algorithm>
#include <functional>

#include "base/strings.h"

namespace fluyt::spec {
namespace {

constexpr size_t kMaxLineBytes = 65536;
constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxHomeBytes = 4096;

Error wrong(std::string_view field, std::string_view value, std::string_view expected) {
  return {Code::kInvalidArgument, cat(field, ": ", quote(value), ": expected ", expected)};
}

bool is_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<uint32_t> find_id(std::string_view digits) {
  const auto id = is_digits(digits) ? parse_number<uint32_t>(digits) : std::nullopt;
  return id && *id <= kMaxId ? id : std::nullopt;
}

/// What may name a user or group: printable, without the files' separators.
bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxNameBytes && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return static_cast<unsigned char>(c) > ' ' && c != '\x7f' && c != ':' && c != ',';
         });
}

/// Calls `use` with the fields of each line that has exactly `count`, until it returns true.
void for_each_line(std::string_view file, size_t count,
                   const std::function<bool(const std::vector<std::string_view>&)>& use) {
  file = file.substr(0, kMaxUserFileBytes);
  while (!file.empty()) {
    const size_t end = std::min(file.find('\n'), file.size());
    const std::string_view line = file.substr(0, end);
    file.remove_prefix(std::min(end + 1, file.size()));
    if (line.empty() || line.size() > kMaxLineBytes || line.front() == '#') {
      continue;
    }
    const auto fields = split(line, ':');
    if (fields.size() == count && use(fields)) {
      return;
    }
  }
}

struct PasswdEntry {
  std::string name;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string home;
};

/// name:password:uid:gid:gecos:home:shell; nothing when the line is not that.
std::optional<PasswdEntry> read_passwd_line(const std::vector<std::string_view>& fields) {
  const auto uid = find_id(fields[2]);
  const auto gid = find_id(fields[3]);
  if (!is_name(fields[0]) || !uid || !gid) {
    return std::nullopt;
  }
  return PasswdEntry{
      .name = std::string(fields[0]), .uid = *uid, .gid = *gid, .home = std::string(fields[5])};
}

std::optional<PasswdEntry> find_passwd(std::string_view file,
                                       const std::function<bool(const PasswdEntry&)>& matches) {
  std::optional<PasswdEntry> found;
  for_each_line(file, 7, [&](const auto& fields) {
    auto entry = read_passwd_line(fields);
    if (entry && matches(*entry)) {
      found = std::move(entry);
    }
    return found.has_value();
  });
  return found;
}

/// name:password:gid:member,member
std::optional<uint32_t> find_group(std::string_view file, std::string_view name) {
  std::optional<uint32_t> found;
  for_each_line(file, 4, [&](const auto& fields) {
    if (fields[0] == name) {
      found = find_id(fields[2]);
    }
    return found.has_value();
  });
  return found;
}

std::vector<uint32_t> groups_of_member(std::string_view file, std::string_view user) {
  std::vector<uint32_t> groups;
  for_each_line(file, 4, [&](const auto& fields) {
    const auto gid = find_id(fields[2]);
    const auto members = split(fields[3], ',');
    if (gid && is_name(fields[0]) &&
        std::find(members.begin(), members.end(), user) != members.end()) {
      groups.push_back(*gid);
    }
    return false;
  });
  return groups;
}

/// HOME goes into the environment, and programs write it into files (CVE-2022-4318).
std::string usable_home(const std::string& home) {
  const bool usable = home.starts_with('/') && home.size() <= kMaxHomeBytes &&
                      !has_control_characters(home) && is_utf8(home);
  return usable ? home : "/";
}

struct Parts {
  std::string_view user;
  std::optional<std::string_view> group;
};

Result<Parts> split_user(std::string_view text) {
  const auto pieces = split(text, ':');
  if (pieces.size() > 2 || pieces[0].empty() || (pieces.size() == 2 && pieces[1].empty())) {
    return wrong("user", text, "user or user:group, by name or id");
  }
  Parts parts{.user = pieces[0], .group = std::nullopt};
  if (pieces.size() == 2) {
    parts.group = pieces[1];
  }
  return parts;
}

/// A user found, with the name that /etc/group may list, empty when passwd has none.
struct FoundUser {
  Identity identity;
  std::string name;
};

Result<FoundUser> find_user(std::string_view text, const UserFiles& files) {
  std::optional<PasswdEntry> entry;
  FoundUser found;
  if (is_digits(text)) {
    const auto uid = find_id(text);
    if (!uid) {
      return wrong("user", text, cat("an id up to ", kMaxId));
    }
    found.identity.uid = *uid;
    entry = find_passwd(files.passwd, [&](const PasswdEntry& one) { return one.uid == *uid; });
  } else {
    if (!is_name(text)) {
      return wrong("user", text, "a name or an id");
    }
    entry = find_passwd(files.passwd, [&](const PasswdEntry& one) { return one.name == text; });
    if (!entry) {
      return wrong("user", text, "a name in the image's /etc/passwd, or an id");
    }
  }
  if (entry) {
    found.identity.uid = entry->uid;
    found.identity.gid = entry->gid;
    found.identity.home = usable_home(entry->home);
    found.name = std::move(entry->name);
  } else if (found.identity.uid == 0) {
    found.identity.home = "/root";
  }
  return found;
}

Result<uint32_t> find_gid(std::string_view text, const UserFiles& files) {
  if (is_digits(text)) {
    if (const auto gid = find_id(text)) {
      return *gid;
    }
    return wrong("group", text, cat("an id up to ", kMaxId));
  }
  const auto gid = is_name(text) ? find_group(files.group, text) : std::nullopt;
  if (!gid) {
    return wrong("group", text, "a name in the image's /etc/group, or an id");
  }
  return *gid;
}

Result<uint32_t> checked_id(std::string_view field, int64_t id) {
  if (id < 0 || id > int64_t{kMaxId}) {
    return Error(Code::kInvalidArgument,
                 cat(field, ": ", id, ": expected an id from 0 to ", kMaxId));
  }
  return static_cast<uint32_t>(id);
}

Result<> set_groups(Identity& identity, std::vector<uint32_t> groups) {
  groups.push_back(identity.gid);
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  if (groups.size() > kMaxGroups) {
    return Error(Code::kInvalidArgument,
                 cat("supplementary groups: ", groups.size(), ": expected at most ", kMaxGroups));
  }
  identity.groups = std::move(groups);
  return {};
}

/// The user that is asked for, or else the image's.
Result<FoundUser> asked_user(const UserRequest& request, std::string_view image_user,
                             const UserFiles& files) {
  if (!request.run_as_username.empty()) {
    if (request.run_as_username.find(':') != std::string::npos) {
      return wrong("run_as_username", request.run_as_username, "a user's name, without group");
    }
    return FLUYT_TRY_CONTEXT(find_user(request.run_as_username, files), "run_as_username");
  }
  if (request.run_as_user) {
    const uint32_t uid = FLUYT_TRY(checked_id("run_as_user", *request.run_as_user));
    return find_user(std::to_string(uid), files);
  }
  if (request.run_as_group) {
    return Error(Code::kInvalidArgument,
                 cat("run_as_group: ", *request.run_as_group,
                     ": expected run_as_user or run_as_username beside it"));
  }
  if (image_user.empty()) {
    return find_user("0", files);
  }
  const Parts parts = FLUYT_TRY_CONTEXT(split_user(image_user), "image config");
  FoundUser found = FLUYT_TRY_CONTEXT(find_user(parts.user, files), "image config");
  if (parts.group) {
    found.identity.gid = FLUYT_TRY_CONTEXT(find_gid(*parts.group, files), "image config");
  }
  return found;
}

}  // namespace

Result<Identity> resolve_user(std::string_view text, const UserFiles& files) {
  const Parts parts =
      text.empty() ? Parts{.user = "0", .group = std::nullopt} : FLUYT_TRY(split_user(text));
  FoundUser found = FLUYT_TRY(find_user(parts.user, files));
  std::vector<uint32_t> groups;
  if (parts.group) {
    found.identity.gid = FLUYT_TRY(find_gid(*parts.group, files));
  } else if (!found.name.empty()) {
    groups = groups_of_member(files.group, found.name);
  }
  FLUYT_TRY(set_groups(found.identity, std::move(groups)));
  return found.identity;
}

Result<Identity> resolve_user(const UserRequest& request, std::string_view image_user,
                              const UserFiles& files) {
  FoundUser found = FLUYT_TRY(asked_user(request, image_user, files));
  if (request.run_as_group) {
    found.identity.gid = FLUYT_TRY(checked_id("run_as_group", *request.run_as_group));
  }
  std::vector<uint32_t> groups;
  if (request.groups_policy == GroupsPolicy::kMerge && !found.name.empty()) {
    groups = groups_of_member(files.group, found.name);
  }
  for (size_t i = 0; i < request.supplemental_groups.size(); ++i) {
    groups.push_back(
        FLUYT_TRY(checked_id(cat("supplemental_groups[", i, "]"), request.supplemental_groups[i])));
  }
  FLUYT_TRY(set_groups(found.identity, std::move(groups)));
  return found.identity;
}

}  // namespace fluyt::spec
