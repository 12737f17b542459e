#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace fluyt::runtime {

/// The options of one mount of the specification, sorted by what carries them out. Pure.
struct MountOptions {
  // mount_setattr(2) of the mount itself.
  uint64_t set = 0;
  uint64_t clear = 0;
  bool names_flags = false;  // any of them but the access-time ones, set or cleared
  bool names_atime = false;  // an access-time behaviour was chosen
  // The same for it and all below (rro, rnosuid, ...).
  uint64_t tree_set = 0;
  uint64_t tree_clear = 0;
  uint64_t propagation = 0;  // MS_PRIVATE, MS_SLAVE, MS_SHARED, MS_UNBINDABLE; 0: none was named
  bool propagation_tree = false;
  bool bind = false;
  bool bind_tree = false;  // rbind
  bool remount = false;
  bool copy_up = false;        // tmpcopyup
  bool source_itself = false;  // src-nofollow: a link is bound, not what it leads to
  bool target_itself = false;  // dest-nofollow: a link is covered, not what it leads to
  bool copy_link = false;      // copy-symlink: a link is made anew in the container
  bool id_map = false;
  bool id_map_tree = false;
  std::vector<std::string> passed_over;  // named and without effect: a warning each
  /// For the file system, in order: superblock flags ("ro", "sync") and its own options. A name
  /// without value has an empty second.
  std::vector<std::pair<std::string, std::string>> data;
  bool operator==(const MountOptions&) const = default;
};

Result<MountOptions> parse_mount_options(const std::vector<std::string>& options);
/// Whether `name` is in the specification's table, and not a file system's own.
bool is_mount_option(std::string_view name);
/// What `features` lists.
std::vector<std::string> known_mount_options();

}  // namespace fluyt::runtime
