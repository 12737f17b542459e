#include <sched.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "runtime/plan.h"

namespace fluyt::runtime {

namespace {

// File systems without a source on the host: they belong to the container's namespaces and are made
// inside. All others are made by the caller, where their source's path means what it says.
constexpr std::array<std::string_view, 15> kInside = {
    "tmpfs",       "devpts",   "mqueue",   "ramfs",  "hugetlbfs",
    "securityfs",  "debugfs",  "tracefs",  "bpf",    "fusectl",
    "binfmt_misc", "configfs", "efivarfs", "pstore", "rpc_pipefs"};

// Files of procfs that a bind may replace: lxcfs and friends do.
constexpr std::array<std::string_view, 10> kReplaceable = {"/proc/cpuinfo",
                                                           "/proc/diskstats",
                                                           "/proc/meminfo",
                                                           "/proc/stat",
                                                           "/proc/swaps",
                                                           "/proc/uptime",
                                                           "/proc/loadavg",
                                                           "/proc/slabinfo",
                                                           "/proc/sys/kernel/ns_last_pid",
                                                           "/proc/sys/crypto/fips_enabled"};

std::vector<sys::IdRange> ranges(const std::vector<oci::IdMapping>& mappings) {
  std::vector<sys::IdRange> out;
  out.reserve(mappings.size());
  for (const auto& mapping : mappings) {
    out.push_back({mapping.container_id, mapping.host_id, mapping.size});
  }
  return out;
}

Error wrong(size_t index, std::string_view rest) {
  return Error(Code::kInvalidArgument, cat("mounts[", index, "]", rest));
}

MountKind kind_of(const oci::Mount& mount, const MountOptions& options) {
  if (options.remount) return MountKind::kRemount;
  if (options.bind || mount.type == "bind") return MountKind::kBind;
  if (mount.type == "proc") return MountKind::kProc;
  if (mount.type == "sysfs") return MountKind::kSysfs;
  if (mount.type == "cgroup" || mount.type == "cgroup2") return MountKind::kCgroup;
  const bool inside = std::find(kInside.begin(), kInside.end(), mount.type) != kInside.end();
  return inside ? MountKind::kFs : MountKind::kHostFs;
}

// A container that chose what lies at /proc could make our and its neighbours' tools write there.
Result<> check_proc(const MountPlan& plan) {
  if (plan.destination == "/proc") {
    const bool real = plan.kind == MountKind::kProc || plan.kind == MountKind::kRemount ||
                      (plan.kind == MountKind::kBind && plan.source == "/proc");
    if (real) return {};
    return wrong(plan.index, ".destination: \"/proc\": only procfs may be mounted here");
  }
  if (!plan.destination.starts_with("/proc/") || plan.kind == MountKind::kRemount) return {};
  if (std::find(kReplaceable.begin(), kReplaceable.end(), plan.destination) != kReplaceable.end()) {
    return {};
  }
  // A part of procfs over another, such as the read-only /proc/sys that some tools write out.
  if (plan.kind == MountKind::kBind && plan.source.starts_with("/proc/")) return {};
  return wrong(plan.index, cat(".destination: ", quote(plan.destination),
                               ": nothing may be mounted inside /proc"));
}

Result<> plan_id_map(const oci::Mount& mount, const NamespacePlan& namespaces, MountPlan& plan) {
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty()) {
    return wrong(plan.index, ".uidMappings, gidMappings: expected both or neither");
  }
  if (!mount.uid_mappings.empty()) {
    plan.uids = ranges(mount.uid_mappings);
    plan.gids = ranges(mount.gid_mappings);
    plan.options.id_map = true;
  } else if (plan.options.id_map) {
    const bool joins_user =
        !namespaces.joins.empty() && namespaces.joins.front().type == CLONE_NEWUSER;
    if (namespaces.uids.empty() && !joins_user) {
      return wrong(plan.index,
                   ".options: \"idmap\": needs mappings, of the mount or of the container");
    }
    // None of our own where the container joins a user namespace: those of that one.
    plan.uids = namespaces.uids;
    plan.gids = namespaces.gids;
  }
  if (plan.options.id_map && plan.kind != MountKind::kBind) {
    return Error(Code::kUnimplemented,
                 cat("mounts[", plan.index, "].uidMappings: only binds can be idmapped"));
  }
  return {};
}

// What is made new has nothing below it: the recursive options are about it alone.
void fold_tree(MountOptions& options) {
  options.set = (options.set & ~options.tree_clear) | options.tree_set;
  options.clear = (options.clear & ~options.tree_set) | options.tree_clear;
  options.tree_set = options.tree_clear = 0;
}

// File systems that can show all of their files under one SELinux context. proc and sysfs have
// labels of their own; mqueue is one file system for all who share its IPC namespace: its root gets
// the label, unless that is the host's own.
void add_label(const std::string& label, const NamespacePlan& namespaces, MountPlan& plan) {
  if (plan.kind == MountKind::kFs && plan.type == "mqueue") {
    if (namespaces.has(CLONE_NEWIPC)) plan.label = label;
  } else if (plan.kind == MountKind::kHostFs || plan.kind == MountKind::kFs) {
    plan.options.data.emplace_back("context", label);
  }
}

// Some write the root's own path in front, as runc's users may.
std::string in_root(const std::string& path, const std::string& root) {
  if (root.empty() || !path.starts_with(root) || path.size() <= root.size()) return path;
  return path[root.size()] == '/' ? path.substr(root.size()) : path;
}

Result<MountPlan> plan_mount(size_t index, const oci::Mount& mount, const std::string& bundle,
                             const std::string& spec_root, const NamespacePlan& namespaces) {
  MountPlan plan;
  plan.index = index;
  if (mount.destination.empty()) return wrong(index, ".destination: expected a path");
  plan.destination = in_root(clean_path(mount.destination), spec_root);
  plan.type = mount.type;
  plan.options = FLUYT_TRY(parse_mount_options(mount.options));
  plan.kind = kind_of(mount, plan.options);
  plan.source = mount.source;
  if (plan.kind == MountKind::kBind) {
    if (mount.source.empty()) return wrong(index, ".source: expected the path of what is bound");
    if (!mount.source.starts_with('/')) plan.source = cat(bundle, "/", mount.source);
    // A bind takes the file system as it is: its flags are not ours to change, and it has no other
    // options.
    for (const auto& [key, value] : plan.options.data) {
      if (is_mount_option(key) && value.empty()) continue;
      return wrong(index, cat(".options: ", quote(key), ": no option of a bind"));
    }
    plan.options.data.clear();
  } else if (plan.kind != MountKind::kRemount && mount.type.empty()) {
    return wrong(index, ".type: expected a file system's name, or \"bind\" among the options");
  }
  if (plan.destination == "/" && plan.kind != MountKind::kBind) {
    return wrong(index,
                 ".destination: \"/\": expected a bind: anything else has no program to run");
  }
  if (plan.kind != MountKind::kBind && plan.kind != MountKind::kRemount) fold_tree(plan.options);
  // sysfs belongs to a network namespace: without the right to that one, the kernel gives none. The
  // host's is shown then, nothing of it to be changed, and nothing that lies on it.
  if (plan.kind == MountKind::kSysfs && namespaces.in_user_namespace() &&
      !namespaces.has(CLONE_NEWNET)) {
    plan.kind = MountKind::kBind;
    plan.source = "/sys";
    plan.options.data.clear();
    plan.options.set |=
        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    plan.options.clear &= ~plan.options.set;
  }
  // Without a cgroup namespace the files would show, and with write access move us to, more than
  // ours (CVE-2023-25809): read-only then, whatever was asked.
  if (plan.kind == MountKind::kCgroup && !namespaces.has(CLONE_NEWCGROUP)) {
    plan.options.set |= MOUNT_ATTR_RDONLY;
    plan.options.clear &= ~uint64_t{MOUNT_ATTR_RDONLY};
  }
  if (plan.kind != MountKind::kBind &&
      (plan.options.source_itself || plan.options.target_itself || plan.options.copy_link)) {
    return wrong(index, ".options: src-nofollow, dest-nofollow, copy-symlink: only for binds");
  }
  if (plan.options.copy_up && plan.type != "tmpfs") {
    return wrong(index, ".options: \"tmpcopyup\": only for tmpfs");
  }
  FLUYT_TRY(check_proc(plan));
  FLUYT_TRY(plan_id_map(mount, namespaces, plan));
  return plan;
}

}  // namespace

std::string clean_path(std::string_view path) {
  std::vector<std::string_view> kept;
  for (const std::string_view piece : split(path, '/')) {
    if (piece.empty() || piece == ".") continue;
    if (piece == "..") {
      if (!kept.empty()) kept.pop_back();
      continue;
    }
    kept.push_back(piece);
  }
  std::string out;
  for (const std::string_view piece : kept) out += cat("/", piece);
  return out.empty() ? "/" : out;
}

Result<std::vector<MountPlan>> plan_mounts(const oci::Spec& spec, const std::string& bundle,
                                           const NamespacePlan& namespaces,
                                           const std::vector<size_t>& places) {
  std::vector<MountPlan> plans;
  plans.reserve(spec.mounts.size());
  const std::string at = spec.root ? spec.root->path : "";
  const std::string whole = clean_path(at.starts_with('/') ? at : cat(bundle, "/", at));
  const std::string root = whole == "/" ? "" : whole;
  const std::string label = spec.linux_ ? spec.linux_->mount_label : "";
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    const size_t place = i < places.size() ? places[i] : i;
    plans.push_back(FLUYT_TRY(plan_mount(place, spec.mounts[i], bundle, root, namespaces)));
    if (!label.empty()) add_label(label, namespaces, plans.back());
  }
  return plans;
}

}  // namespace fluyt::runtime
