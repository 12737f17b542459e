#include "runtime/mount_options.h"

#include <array>

#include "sys/mount.h"

namespace fluyt::runtime {

namespace {

// What an option does. An access-time option first clears the whole field, as mount_setattr(2)
// wants.
struct Row {
  std::string_view name;
  enum Kind {
    kSet,         // the attribute on
    kClear,       // the attribute off
    kAtime,       // one value of the access-time field
    kPropagate,   // a propagation type
    kFlag,        // a superblock flag, by its fsconfig(2) name
    kNothing,     // accepted: the default, or about what the kernel writes to its log
    kPassedOver,  // accepted with a warning: the mount API has no such thing
    kBind,
    kBindTree,
    kRemount,
    kCopyUp,
    kSourceItself,
    kTargetItself,
    kCopyLink,
    kIdMap,
    kIdMapTree,
  } kind;
  uint64_t value = 0;
  bool tree = false;
};

constexpr std::array kRows = std::to_array<Row>({
    {"async", Row::kFlag},
    {"atime", Row::kClear, MOUNT_ATTR_NOATIME},
    {"bind", Row::kBind},
    {"copy-symlink", Row::kCopyLink},
    {"defaults", Row::kNothing},
    {"dest-nofollow", Row::kTargetItself},
    {"dev", Row::kClear, MOUNT_ATTR_NODEV},
    {"diratime", Row::kClear, MOUNT_ATTR_NODIRATIME},
    {"dirsync", Row::kFlag},
    {"exec", Row::kClear, MOUNT_ATTR_NOEXEC},
    {"idmap", Row::kIdMap},
    {"iversion", Row::kPassedOver},
    {"lazytime", Row::kFlag},
    {"loud", Row::kNothing},
    {"mand", Row::kFlag},
    {"noatime", Row::kAtime, MOUNT_ATTR_NOATIME},
    {"nodev", Row::kSet, MOUNT_ATTR_NODEV},
    {"nodiratime", Row::kSet, MOUNT_ATTR_NODIRATIME},
    {"noexec", Row::kSet, MOUNT_ATTR_NOEXEC},
    {"noiversion", Row::kPassedOver},
    {"nolazytime", Row::kFlag},
    {"nomand", Row::kFlag},
    {"norelatime", Row::kClear, MOUNT_ATTR_RELATIME},
    {"nostrictatime", Row::kClear, MOUNT_ATTR_STRICTATIME},
    {"nosuid", Row::kSet, MOUNT_ATTR_NOSUID},
    {"nosymfollow", Row::kSet, MOUNT_ATTR_NOSYMFOLLOW},
    {"private", Row::kPropagate, MS_PRIVATE},
    {"ratime", Row::kClear, MOUNT_ATTR_NOATIME, true},
    {"rbind", Row::kBindTree},
    {"rdev", Row::kClear, MOUNT_ATTR_NODEV, true},
    {"rdiratime", Row::kClear, MOUNT_ATTR_NODIRATIME, true},
    {"relatime", Row::kAtime, MOUNT_ATTR_RELATIME},
    {"remount", Row::kRemount},
    {"rexec", Row::kClear, MOUNT_ATTR_NOEXEC, true},
    {"ridmap", Row::kIdMapTree},
    {"rnoatime", Row::kAtime, MOUNT_ATTR_NOATIME, true},
    {"rnodev", Row::kSet, MOUNT_ATTR_NODEV, true},
    {"rnodiratime", Row::kSet, MOUNT_ATTR_NODIRATIME, true},
    {"rnoexec", Row::kSet, MOUNT_ATTR_NOEXEC, true},
    {"rnorelatime", Row::kClear, MOUNT_ATTR_RELATIME, true},
    {"rnostrictatime", Row::kClear, MOUNT_ATTR_STRICTATIME, true},
    {"rnosuid", Row::kSet, MOUNT_ATTR_NOSUID, true},
    {"rnosymfollow", Row::kSet, MOUNT_ATTR_NOSYMFOLLOW, true},
    {"ro", Row::kSet, MOUNT_ATTR_RDONLY},
    {"rprivate", Row::kPropagate, MS_PRIVATE, true},
    {"rrelatime", Row::kAtime, MOUNT_ATTR_RELATIME, true},
    {"rro", Row::kSet, MOUNT_ATTR_RDONLY, true},
    {"rrw", Row::kClear, MOUNT_ATTR_RDONLY, true},
    {"rshared", Row::kPropagate, MS_SHARED, true},
    {"rslave", Row::kPropagate, MS_SLAVE, true},
    {"rstrictatime", Row::kAtime, MOUNT_ATTR_STRICTATIME, true},
    {"rsuid", Row::kClear, MOUNT_ATTR_NOSUID, true},
    {"rsymfollow", Row::kClear, MOUNT_ATTR_NOSYMFOLLOW, true},
    {"runbindable", Row::kPropagate, MS_UNBINDABLE, true},
    {"rw", Row::kClear, MOUNT_ATTR_RDONLY},
    {"shared", Row::kPropagate, MS_SHARED},
    {"silent", Row::kNothing},
    {"slave", Row::kPropagate, MS_SLAVE},
    {"src-nofollow", Row::kSourceItself},
    {"strictatime", Row::kAtime, MOUNT_ATTR_STRICTATIME},
    {"suid", Row::kClear, MOUNT_ATTR_NOSUID},
    {"symfollow", Row::kClear, MOUNT_ATTR_NOSYMFOLLOW},
    {"sync", Row::kFlag},
    {"tmpcopyup", Row::kCopyUp},
    {"unbindable", Row::kPropagate, MS_UNBINDABLE},
});

const Row* find_row(std::string_view name) {
  for (const Row& row : kRows) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

// The last word counts: an attribute that is set is no longer cleared, and the other way about.
void set_attribute(uint64_t& set, uint64_t& clear, uint64_t bits) {
  set |= bits;
  clear &= ~bits;
}
void clear_attribute(uint64_t& set, uint64_t& clear, uint64_t bits) {
  if ((bits & MOUNT_ATTR__ATIME) != 0 || bits == MOUNT_ATTR_RELATIME) {
    // "atime", "norelatime", "nostrictatime": back to the kernel's default, which is relatime.
    set &= ~uint64_t{MOUNT_ATTR__ATIME};
    clear |= MOUNT_ATTR__ATIME;
    return;
  }
  set &= ~bits;
  clear |= bits;
}
void choose_atime(uint64_t& set, uint64_t& clear, uint64_t value) {
  set = (set & ~uint64_t{MOUNT_ATTR__ATIME}) | value;
  clear |= MOUNT_ATTR__ATIME;
}

void note_flag(const Row& row, MountOptions& out) {
  if (row.tree) return;
  const bool about_atime = (row.value & (MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME)) != 0 ||
                           row.value == MOUNT_ATTR_RELATIME;
  if (!about_atime) out.names_flags = true;
  // Taking one back ("atime", "diratime") chooses nothing.
  if (about_atime && row.kind == Row::kSet) out.names_atime = true;
}

void apply_row(const Row& row, MountOptions& out) {
  uint64_t& set = row.tree ? out.tree_set : out.set;
  uint64_t& clear = row.tree ? out.tree_clear : out.clear;
  switch (row.kind) {
    case Row::kSet:
      set_attribute(set, clear, row.value);
      note_flag(row, out);
      break;
    case Row::kClear:
      clear_attribute(set, clear, row.value);
      note_flag(row, out);
      break;
    case Row::kAtime:
      choose_atime(set, clear, row.value);
      out.names_atime |= !row.tree;
      break;
    case Row::kPropagate:
      out.propagation = row.value;
      out.propagation_tree = row.tree;
      break;
    case Row::kFlag:
      out.data.emplace_back(row.name, "");
      break;
    case Row::kNothing:
      break;
    case Row::kPassedOver:
      out.passed_over.emplace_back(row.name);
      break;
    case Row::kBind:
      out.bind = true;
      break;
    case Row::kBindTree:
      out.bind = true;
      out.bind_tree = true;
      break;
    case Row::kRemount:
      out.remount = true;
      break;
    case Row::kCopyUp:
      out.copy_up = true;
      break;
    case Row::kSourceItself:
      out.source_itself = true;
      break;
    case Row::kTargetItself:
      out.target_itself = true;
      break;
    case Row::kCopyLink:
      out.copy_link = true;
      break;
    case Row::kIdMap:
      out.id_map = true;
      break;
    case Row::kIdMapTree:
      out.id_map = true;
      out.id_map_tree = true;
      break;
  }
}

}  // namespace

Result<MountOptions> parse_mount_options(const std::vector<std::string>& options) {
  MountOptions out;
  for (const std::string& option : options) {
    if (option.empty()) continue;
    if (const Row* row = find_row(option)) {
      apply_row(*row, out);
      continue;
    }
    // Everything else is the file system's: it knows what it takes, and says so.
    const size_t equals = option.find('=');
    if (equals == std::string::npos) {
      out.data.emplace_back(option, "");
    } else {
      out.data.emplace_back(option.substr(0, equals), option.substr(equals + 1));
    }
  }
  return out;
}

bool is_mount_option(std::string_view name) { return find_row(name) != nullptr; }

std::vector<std::string> known_mount_options() {
  std::vector<std::string> names;
  for (const Row& row : kRows) names.emplace_back(row.name);
  return names;
}

}  // namespace fluyt::runtime
