#pragma once

#include <functional>
#include <string>

#include "guest/proc/nodes.h"
#include "guest/task/task.h"

namespace fluyt::guest {

/// uid_map, gid_map and setgroups of a process (user_namespaces(7)): those of its user namespace.
/// What may be written depends on who opened it as well.
class UserFile final : public Node {
 public:
  enum class Kind : uint8_t { kUidMap, kGidMap, kSetGroups };
  static const char* name(Kind kind);
  /// The namespace as it is opened; null: the first, whose maps are the host's.
  using Of = std::function<ErrnoOr<UserSpacePtr>()>;
  UserFile(const NodeSystem& system, uint64_t ino, Kernel& kernel, Kind kind, Of of);
  Errno truncate(int64_t) override { return kOk; }
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override;

 private:
  Kernel& kernel_;
  const Kind kind_;
  const Of of_;
};

/// The text of a map: its outer ids as `reader` has them, or as the namespace above has where the
/// reader is in it.
std::string id_map_text(const Kernel& kernel, const UserSpacePtr& of, UserSpace::Kind kind,
                        const Credentials& reader);

/// Who opened the file and who writes to it. Errors as in user_namespaces(7).
struct MapWriter {
  const Credentials& opener;
  const Credentials& writer;
};
Errno write_id_map(const Kernel& kernel, const UserSpacePtr& of, UserSpace::Kind kind,
                   const MapWriter& by, std::string_view text, int64_t offset);
Errno write_set_groups(const UserSpacePtr& of, std::string_view text, int64_t offset);

}  // namespace fluyt::guest
