#include "guest/proc/user_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

namespace fluyt::guest {
namespace {

/// Who maps the root of the namespace above can give files capabilities that hold there, and must
/// have had that right (user_namespaces(7), "Defining user and group ID mappings"; Linux 5.12).
bool may_map_root(const UserSpace& of, const Credentials& opener, const IdMap& wanted) {
  const bool has_root = std::ranges::any_of(
      wanted.extents(), [](const IdMap::Extent& one) { return one.outside == 0; });
  if (!has_root) return true;
  if (opener.user.get() == &of) return of.maker_set_file_capabilities;
  return opener.can_in(kCapSetfcap, of.above.get());
}

bool is_permitted(const Kernel& kernel, const UserSpace& of, UserSpace::Kind kind,
                  const MapWriter& by, const IdMap& wanted) {
  const Credentials& opener = by.opener;
  if (kind == UserSpace::kUsers && !may_map_root(of, opener, wanted)) return false;
  // One's own id is everybody's to map.
  const IdMap::Extent& first = wanted.extents().front();
  if (wanted.extents().size() == 1 && first.count == 1 && of.owner == opener.euid) {
    const IdMap* const above = of.above ? of.above->map(kind) : &kernel.ids(kind);
    const uint32_t id = above != nullptr ? above->down(first.outside) : kNoId;
    if (kind == UserSpace::kUsers && id == opener.euid) return true;
    if (kind == UserSpace::kGroups && !of.allows_groups() && id == opener.egid) return true;
  }
  const int capability = kind == UserSpace::kUsers ? kCapSetuid : kCapSetgid;
  return by.writer.can_in(capability, of.above.get()) && opener.can_in(capability, of.above.get());
}

}  // namespace

std::string id_map_text(const Kernel& kernel, const UserSpacePtr& of, UserSpace::Kind kind,
                        const Credentials& reader) {
  const UserSpace* outer = reader.user.get();
  if (!of && outer == nullptr) return kernel.id_map_text(kind);
  if (of && outer == of.get()) outer = of->above.get();
  const IdMap* const map = of ? of->map(kind) : &kernel.ids(kind);
  if (map == nullptr) return "";
  std::vector<IdMap::Extent> extents = map->extents();
  for (IdMap::Extent& one : extents)
    if (outer != nullptr)
      one.outside =
          kind == UserSpace::kUsers ? outer->uid_of(one.outside) : outer->gid_of(one.outside);
  return IdMap(std::move(extents)).describe();
}

Errno write_id_map(const Kernel& kernel, const UserSpacePtr& of, UserSpace::Kind kind,
                   const MapWriter& by, std::string_view text, int64_t offset) {
  constexpr size_t kMost = 4096;
  if (!of || (by.opener.user != of && by.opener.user != of->above)) return Errno(EPERM);
  if (offset != 0 || text.size() >= kMost) return Errno(EINVAL);
  if (of->map(kind) != nullptr || !by.opener.can_in(kCapSysAdmin, of.get())) return Errno(EPERM);
  const IdMap wanted = GUEST_TRY(IdMap::parse(text));
  if (!is_permitted(kernel, *of, kind, by, wanted)) return Errno(EPERM);
  const IdMap* const above = of->above ? of->above->map(kind) : &kernel.ids(kind);
  if (above == nullptr) return Errno(EPERM);
  std::optional<IdMap> map = wanted.within(*above);
  if (!map) return Errno(EPERM);
  return of->set_map(kind, std::move(*map));
}

Errno write_set_groups(const UserSpacePtr& of, std::string_view text, int64_t offset) {
  constexpr size_t kMost = 8;
  if (offset != 0 || text.size() >= kMost) return Errno(EINVAL);
  text = text.substr(0, text.find('\0'));
  const bool allows = text.starts_with("allow");
  if (!allows && !text.starts_with("deny")) return Errno(EINVAL);
  text.remove_prefix(allows ? 5 : 4);
  if (text.find_first_not_of(" \t\n\v\f\r") != std::string_view::npos) return Errno(EINVAL);
  if (!of) return allows ? kOk : Errno(EPERM);
  return of->set_allows_groups(allows);
}

const char* UserFile::name(Kind kind) {
  return kind == Kind::kUidMap ? "uid_map" : kind == Kind::kGidMap ? "gid_map" : "setgroups";
}

UserFile::UserFile(const NodeSystem& system, uint64_t ino, Kernel& kernel, Kind kind, Of of)
    : Node(system, S_IFREG | 0644, ino), kernel_(kernel), kind_(kind), of_(std::move(of)) {}

ErrnoOr<FilePtr> UserFile::open(DentryPtr path, int flags) {
  const UserSpacePtr of = GUEST_TRY(of_());
  const Task* task = Task::current();
  const Credentials opener = task != nullptr ? task->credentials : Credentials();
  if (kind_ == Kind::kSetGroups) {
    if ((flags & O_ACCMODE) != O_RDONLY && !opener.can_in(kCapSysAdmin, of.get()))
      return Errno(EACCES);
    return open_text(
        std::move(path), shared_from_this(), flags,
        std::string(!of || of->allows_groups() ? "allow\n" : "deny\n"),
        [of](std::string_view text, int64_t offset) { return write_set_groups(of, text, offset); });
  }
  const UserSpace::Kind kind = kind_ == Kind::kUidMap ? UserSpace::kUsers : UserSpace::kGroups;
  return open_text(std::move(path), shared_from_this(), flags,
                   id_map_text(kernel_, of, kind, opener),
                   [of, &kernel = kernel_, kind, opener](std::string_view text, int64_t offset) {
                     const Task* writer = Task::current();
                     return write_id_map(kernel, of, kind,
                                         {opener, writer != nullptr ? writer->credentials : opener},
                                         text, offset);
                   });
}

}  // namespace fluyt::guest
