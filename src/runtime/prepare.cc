#include "runtime/prepare.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/mount.h"
#include "sys/socket.h"

namespace fluyt::runtime {

namespace {

// What a bind takes from the container.
struct BindTo {
  uint64_t propagation = MS_PRIVATE;  // where the mount names none
  bool mapped = false;                // a user namespace of its own
  sys::FdRef joined_users;            // one by path: its mappings are the mount's too
  sys::FdRef made_users;              // one that has the mount's mappings already
};

Result<> verify_device(sys::FdRef fd, uint32_t type, int64_t major, int64_t minor) {
  const struct stat info = FLUYT_TRY(sys::stat_of(fd));
  const dev_t expected = makedev(static_cast<unsigned>(major), static_cast<unsigned>(minor));
  if ((info.st_mode & S_IFMT) != type || (type != S_IFIFO && info.st_rdev != expected)) {
    return Error(Code::kFailedPrecondition, cat("is not the device ", major, ":", minor));
  }
  return {};
}

constexpr uint64_t kPlainFlags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                                 MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
constexpr uint64_t kAtimeFlags = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;

// Those of a mount that nobody in a user namespace could take off; its access times could nobody
// there change at all.
constexpr uint64_t kLockable =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

// What runc's users know of mount(2): a bind for which flags are named has those and no others of
// its source's; access times stay as they were unless one of theirs is named. A container with a
// user namespace keeps what its root could not have taken off, and may not ask for it by name.
Result<> set_own_attributes(sys::FdRef mount, const MountPlan& plan, const BindTo& to) {
  const MountOptions& options = plan.options;
  const bool flags = options.names_flags || (options.set & kPlainFlags) != 0;
  if (!flags && !options.names_atime) return {};
  uint64_t clear = kPlainFlags & ~options.set;
  if (options.names_atime) clear |= kAtimeFlags & ~(options.set & MOUNT_ATTR_NODIRATIME);
  if (to.mapped) {
    const uint64_t now = FLUYT_TRY(sys::mount_flags(mount));
    const uint64_t locked = now & kLockable;
    const bool other_atime =
        options.names_atime && (options.set & kAtimeFlags) != (now & kAtimeFlags);
    if ((options.clear & locked) != 0 || other_atime) {
      return Error(Code::kPermissionDenied,
                   "options: operation not permitted: a flag of the source that a container with a "
                   "user namespace cannot take off");
    }
    clear &= ~locked;
  }
  uint64_t set = options.set;
  if (!options.names_atime) set &= ~kAtimeFlags;
  return sys::set_mount_attributes(
      mount, {.set = set, .clear = clear, .propagation = 0, .user_namespace = {}},
      sys::Depth::kOne);
}

Result<> set_attributes(sys::FdRef mount, const MountPlan& plan, const BindTo& to) {
  const MountOptions& options = plan.options;
  FLUYT_TRY(set_own_attributes(mount, plan, to));
  if ((options.tree_set | options.tree_clear) != 0) {
    FLUYT_TRY(sys::set_mount_attributes(mount,
                                        {.set = options.tree_set,
                                         .clear = options.tree_clear,
                                         .propagation = 0,
                                         .user_namespace = {}},
                                        sys::Depth::kTree));
  }
  return {};
}

Result<> set_propagation(sys::FdRef mount, const MountOptions& options, uint64_t otherwise) {
  // A detached clone stays in the peer group of what it was cloned from: that is what makes rshared
  // and rslave work, and what must be undone for everything else.
  const uint64_t type = options.propagation != 0 ? options.propagation : otherwise;
  // What lies below the top must not be left in the host's groups either, also where only the top
  // was spoken of ("slave" for "rslave"). Only sharing is done to the letter.
  const bool top_alone = type == MS_UNBINDABLE || (type == MS_SHARED && !options.propagation_tree);
  if (type == MS_UNBINDABLE) {
    FLUYT_TRY(sys::set_mount_attributes(
        mount, {.set = 0, .clear = 0, .propagation = MS_PRIVATE, .user_namespace = {}},
        sys::Depth::kTree));
  }
  return sys::set_mount_attributes(
      mount, {.set = 0, .clear = 0, .propagation = type, .user_namespace = {}},
      top_alone ? sys::Depth::kOne : sys::Depth::kTree);
}

// The user namespace whose mappings the mount gets.
Result<sys::Fd> users_of(const MountPlan& plan, sys::FdRef joined_users) {
  if (!plan.uids.empty()) return sys::make_user_namespace(plan.uids, plan.gids);
  return sys::duplicate(joined_users);
}

Result<> map_ids(sys::FdRef mount, const MountPlan& plan, const BindTo& to) {
  sys::Fd made;
  if (!to.made_users.valid()) made = FLUYT_TRY(users_of(plan, to.joined_users));
  const sys::FdRef space = made.valid() ? made.ref() : to.made_users;
  return sys::map_mount(mount, space,
                        plan.options.id_map_tree ? sys::Depth::kTree : sys::Depth::kOne);
}

sys::Depth depth_of(const MountPlan& plan) {
  return plan.options.bind_tree ? sys::Depth::kTree : sys::Depth::kOne;
}

Result<> finish_bind(sys::FdRef mount, const MountPlan& plan, const BindTo& to) {
  FLUYT_TRY(set_attributes(mount, plan, to));
  FLUYT_TRY(set_propagation(mount, plan.options, to.propagation));
  if (plan.options.id_map) FLUYT_TRY(map_ids(mount, plan, to));
  return {};
}

Result<sys::Fd> make_bind(const MountPlan& plan, const BindTo& to) {
  sys::Fd mount;
  if (plan.tree) {
    mount = FLUYT_TRY(sys::make_overlay(*plan.tree));
  } else if (plan.options.source_itself) {
    const sys::Fd source = FLUYT_TRY(sys::open(plan.source, O_PATH | O_NOFOLLOW));
    mount = FLUYT_TRY(sys::clone_mount(source, depth_of(plan)));
  } else {
    mount = FLUYT_TRY(sys::clone_mount(plan.source, depth_of(plan)));
  }
  FLUYT_TRY(finish_bind(mount, plan, to));
  return mount;
}

BindTo bind_to(const Plan& plan, const std::vector<sys::Fd>& joins) {
  BindTo to;
  const bool shares = plan.root_propagation == MS_SHARED || plan.root_propagation == MS_SLAVE;
  if (shares) to.propagation = plan.root_propagation;
  to.mapped = plan.namespaces.in_user_namespace();
  for (size_t i = 0; i < joins.size(); ++i) {
    if (plan.namespaces.joins[i].type == CLONE_NEWUSER) to.joined_users = joins[i];
  }
  return to;
}

// No link: who could swap it would choose another root.
Result<sys::Fd> open_root_path(const std::string& path) {
  auto at = sys::open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!at.ok() && at.error().errno_value() == ENOTDIR) {
    return Error(Code::kInvalidArgument,
                 cat(quote(path), ": expected a directory, and no symbolic link"));
  }
  return sys::clone_mount(FLUYT_TRY(std::move(at)), sys::Depth::kTree);
}

Result<sys::Fd> make_host_fs(const MountPlan& plan) {
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open(plan.type));
  if (!plan.source.empty()) FLUYT_TRY(context.set_string("source", plan.source));
  for (const auto& [key, value] : plan.options.data) {
    FLUYT_TRY(value.empty() ? context.set_flag(key) : context.set_string(key, value));
  }
  return context.mount(plan.options.set);
}

// What the link at `path` says; nothing where there is no link.
Result<std::string> link_of(const std::string& path) {
  const auto info = FLUYT_TRY(sys::find_stat(sys::kCwd, path));
  if (!info || !S_ISLNK(info->st_mode)) return std::string();
  return sys::read_link(sys::kCwd, path);
}

Result<> prepare_mounts(const Plan& plan, HostSide& side) {
  const BindTo to = bind_to(plan, side.joins);
  side.mounts.resize(plan.mounts.size());
  side.modes.resize(plan.mounts.size());
  side.links.resize(plan.mounts.size());
  for (size_t i = 0; i < plan.mounts.size(); ++i) {
    const MountPlan& mount = plan.mounts[i];
    const std::string field = cat("mounts[", mount.index, "]: ", quote(mount.destination, 1024));
    if (mount.options.copy_link) {
      side.links[i] = FLUYT_TRY_CONTEXT(link_of(mount.source), field);
      if (!side.links[i].empty()) continue;
    }
    if (!mount.source_in_root.empty()) continue;  // made inside
    if (mount.kind == MountKind::kBind) {
      side.mounts[i] = FLUYT_TRY_CONTEXT(make_bind(mount, to), field);
    } else if (mount.kind == MountKind::kHostFs) {
      side.mounts[i] = FLUYT_TRY_CONTEXT(make_host_fs(mount), field);
    }
    if (side.mounts[i].valid())
      side.modes[i] = FLUYT_TRY_CONTEXT(sys::stat_of(side.mounts[i]), field).st_mode;
  }
  return {};
}

uint32_t outside_of(const std::vector<sys::IdRange>& ranges, uint32_t inside) {
  for (const sys::IdRange& range : ranges) {
    if (inside >= range.inside && inside - range.inside < range.count) {
      return range.outside + (inside - range.inside);
    }
  }
  return inside;
}

Result<sys::Fd> make_node(sys::FdRef nodes, const std::string& name, const DevicePlan& device,
                          const NamespacePlan& namespaces) {
  const dev_t number =
      makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor));
  if (mknodat(nodes.raw(), name.c_str(), device.mode, number) != 0) {
    return Error::from_errno(errno, "mknodat()");
  }
  // Nobody else can reach this file system, so the name still names what was just made.
  if (fchmodat(nodes.raw(), name.c_str(), device.mode & 07777U, 0) != 0) {
    return Error::from_errno(errno, "fchmodat()");
  }
  if (fchownat(nodes.raw(), name.c_str(), outside_of(namespaces.uids, device.uid),
               outside_of(namespaces.gids, device.gid), AT_SYMLINK_NOFOLLOW) != 0) {
    return Error::from_errno(errno, "fchownat()");
  }
  const sys::Fd node = FLUYT_TRY(sys::open(nodes, name, O_PATH | O_NOFOLLOW));
  return sys::clone_mount(node, sys::Depth::kOne);
}

Result<sys::Fd> bind_node(const DevicePlan& device) {
  sys::Fd mount = FLUYT_TRY(sys::clone_mount(device.path, sys::Depth::kOne));
  FLUYT_TRY(verify_device(mount, device.mode & S_IFMT, device.major, device.minor));
  return mount;
}

// mknod(2) is refused in a user namespace: the nodes are made here, in a tmpfs of their own, and
// bound in. Without the right to make them, or before Linux 6.15, which takes no bind from a file
// system that is not attached, the host's nodes are.
Result<> prepare_devices(const Plan& plan, HostSide& side) {
  if (!plan.makes_dev || !(plan.namespaces.in_user_namespace() || sys::in_user_namespace()))
    return {};
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("tmpfs"));
  FLUYT_TRY(context.set_string("mode", "0755"));
  const sys::Fd nodes = FLUYT_TRY(context.mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  for (const DevicePlan& device : plan.devices) {
    auto make_it = [&]() -> Result<sys::Fd> {
      auto made =
          make_node(nodes, std::to_string(side.device_nodes.size()), device, plan.namespaces);
      sys::Fd mount = made.ok() ? std::move(*made) : FLUYT_TRY(bind_node(device));
      FLUYT_TRY(sys::set_mount_attributes(mount,
                                          {.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
                                           .clear = 0,
                                           .propagation = MS_PRIVATE,
                                           .user_namespace = {}},
                                          sys::Depth::kOne));
      return mount;
    };
    side.device_nodes.push_back(
        FLUYT_TRY_CONTEXT(make_it(), cat("linux.devices: ", quote(device.path))));
  }
  return {};
}

std::string_view file_of(uint64_t type) {
  switch (type) {
    case CLONE_NEWNET:
      return "net";
    case CLONE_NEWIPC:
      return "ipc";
    case CLONE_NEWUTS:
      return "uts";
    case CLONE_NEWUSER:
      return "user";
    default:
      return "";
  }
}

// A joined namespace that is our own is the host's: its settings are not the container's to change.
Result<> check_sysctls(const Plan& plan, const HostSide& side) {
  for (const SysctlPlan& sysctl : plan.sysctls) {
    for (size_t i = 0; i < side.joins.size(); ++i) {
      if (plan.namespaces.joins[i].type != sysctl.owner) continue;
      const struct stat joined = FLUYT_TRY(sys::stat_of(side.joins[i]));
      const sys::Fd own =
          FLUYT_TRY(sys::open(cat("/proc/self/ns/", file_of(sysctl.owner)), O_PATH));
      const struct stat ours = FLUYT_TRY(sys::stat_of(own));
      if (joined.st_dev == ours.st_dev && joined.st_ino == ours.st_ino) {
        return Error(Code::kInvalidArgument,
                     cat("linux.sysctl[", quote(sysctl.key),
                         "]: the namespace that the container joins is the host's"));
      }
    }
  }
  return {};
}

// Pivoting there would take the host's root from under everybody.
Result<> check_mount_namespace(const Plan& plan, const HostSide& side) {
  if (plan.namespaces.mounts != NamespacePlan::Mounts::kJoined) return {};
  const struct stat joined = FLUYT_TRY(sys::stat_of(side.joins.back()));
  const sys::Fd own = FLUYT_TRY(sys::open("/proc/self/ns/mnt", O_PATH));
  const struct stat ours = FLUYT_TRY(sys::stat_of(own));
  if (joined.st_dev != ours.st_dev || joined.st_ino != ours.st_ino) return {};
  const NamespacePlan::Join& join = plan.namespaces.joins.back();
  return Error(Code::kInvalidArgument,
               cat("linux.namespaces[", join.index, "].path: ", quote(join.path),
                   ": is the runtime's own: expected no mount namespace at all to share it"));
}

}  // namespace

Result<> set_named_propagation(sys::FdRef mount, const MountOptions& options) {
  if (options.propagation == 0) return {};
  return sys::set_mount_attributes(
      mount, {.set = 0, .clear = 0, .propagation = options.propagation, .user_namespace = {}},
      options.propagation_tree ? sys::Depth::kTree : sys::Depth::kOne);
}

Result<sys::Fd> open_null() {
  sys::Fd null = FLUYT_TRY(sys::open("/dev/null", O_RDWR | O_NOFOLLOW));
  FLUYT_TRY_CONTEXT(verify_device(null, S_IFCHR, 1, 3), "/dev/null of the host");
  return null;
}

Result<sys::Fd> open_root(const Plan& plan) {
  sys::Fd root;
  if (plan.root_bind) {
    root = FLUYT_TRY_CONTEXT(
        make_bind(*plan.root_bind, {.mapped = plan.namespaces.in_user_namespace()}),
        cat("mounts[", plan.root_bind->index, "]: \"/\""));
  } else if (plan.overlay) {
    root = FLUYT_TRY_CONTEXT(sys::make_overlay(*plan.overlay), "root");
  } else {
    root = FLUYT_TRY_CONTEXT(open_root_path(plan.root_path), "root.path");
  }
  const struct stat info = FLUYT_TRY(sys::stat_of(root));
  if (!S_ISDIR(info.st_mode)) {
    return Error(Code::kInvalidArgument,
                 cat("root.path: ", quote(plan.root_bind ? plan.root_bind->source : plan.root_path),
                     ": expected a directory"));
  }
  // pivot_root(2) refuses a shared root, so shared comes at the end; a slave must be one from here
  // on, for private would cut it from its master.
  const uint64_t propagation =
      plan.root_propagation == MS_SLAVE ? uint64_t{MS_SLAVE} : uint64_t{MS_PRIVATE};
  FLUYT_TRY(sys::set_mount_attributes(
      root, {.set = 0, .clear = 0, .propagation = propagation, .user_namespace = {}},
      sys::Depth::kTree));
  return root;
}

Result<HostSide> prepare(const Plan& plan) {
  HostSide side;
  for (const NamespacePlan::Join& join : plan.namespaces.joins) {
    side.joins.push_back(FLUYT_TRY_CONTEXT(sys::open_namespace(join.path, join.type),
                                           cat("linux.namespaces[", join.index, "].path")));
  }
  FLUYT_TRY(check_mount_namespace(plan, side));
  FLUYT_TRY(check_sysctls(plan, side));
  side.null = FLUYT_TRY(open_null());
  if (!plan.makes_root_inside()) side.root = FLUYT_TRY(open_root(plan));
  FLUYT_TRY(prepare_mounts(plan, side));
  FLUYT_TRY(prepare_devices(plan, side));
  if (!plan.masked_paths.empty()) {
    side.null_mount = FLUYT_TRY(sys::clone_mount(side.null, sys::Depth::kOne));
    FLUYT_TRY(sys::set_mount_attributes(
        side.null_mount, {.set = 0, .clear = 0, .propagation = MS_PRIVATE, .user_namespace = {}},
        sys::Depth::kOne));
  }
  return side;
}

namespace {

// A tmpfs with the hierarchies in it, not attached yet. Nothing before Linux 6.15, which mounts
// nothing on what is not attached.
Result<std::optional<sys::Fd>> tree_of(const NamedFds& cgroups, const MountOptions& options) {
  sys::Fd top = FLUYT_TRY(make_cgroup_top(options));
  for (const auto& [name, hierarchy] : cgroups) {
    auto placed = place_cgroup(top, name, hierarchy);
    if (!placed.ok() && placed.error().errno_value() == EINVAL) return std::optional<sys::Fd>();
    FLUYT_TRY(std::move(placed));
  }
  FLUYT_TRY(finish_cgroup_top(top, options));
  return std::optional(std::move(top));
}

}  // namespace

Result<sys::Fd> make_cgroup_top(const MountOptions& options) {
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("tmpfs"));
  FLUYT_TRY(context.set_string("mode", "0755"));
  return context.mount(options.set & ~uint64_t{MOUNT_ATTR_RDONLY});
}

// Nobody else has seen the file system yet.
Result<> place_cgroup(sys::FdRef top, const std::string& name, sys::FdRef hierarchy) {
  if (mkdirat(top.raw(), name.c_str(), 0755) != 0)
    return Error::from_errno(errno, cat("mkdirat(", quote(name), ")"));
  const sys::Fd place = FLUYT_TRY(sys::open(top, name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  FLUYT_TRY(sys::attach_mount(hierarchy, place));
  // "cpu,cpuacct" is also found by the name of each of its controllers.
  if (name.find(',') == std::string::npos) return {};
  for (const std::string_view alias : split(name, ',')) {
    if (symlinkat(name.c_str(), top.raw(), std::string(alias).c_str()) != 0)
      return Error::from_errno(errno, cat("symlinkat(", quote(alias), ")"));
  }
  return {};
}

Result<> finish_cgroup_top(sys::FdRef top, const MountOptions& options) {
  return sys::set_mount_attributes(
      top, {.set = options.set, .clear = options.clear, .propagation = 0, .user_namespace = {}},
      sys::Depth::kOne);
}

Result<NamedFds> prepare_cgroups(const Plan& plan, const cgroup::Host& host,
                                 const CgroupRecord& record) {
  NamedFds cgroups;
  const size_t place = plan.mounts_before_cgroups();
  if (place == plan.mounts.size()) return cgroups;
  const MountOptions& options = plan.mounts[place].options;
  auto add = [&](std::string name, const std::string& directory) -> Result<> {
    sys::Fd mount =
        FLUYT_TRY_CONTEXT(sys::clone_mount(directory, sys::Depth::kOne), "cgroup mount");
    FLUYT_TRY(sys::set_mount_attributes(mount,
                                        {.set = options.set,
                                         .clear = options.clear,
                                         .propagation = MS_PRIVATE,
                                         .user_namespace = {}},
                                        sys::Depth::kOne));
    cgroups.emplace_back(std::move(name), std::move(mount));
    return {};
  };
  for (const cgroup::Host::Legacy& legacy : host.legacy) {
    for (const auto& [controller, directory] : record.legacy) {
      if (legacy.controllers.empty() || legacy.controllers.front() != controller) continue;
      FLUYT_TRY(add(legacy.mount_point.substr(legacy.mount_point.rfind('/') + 1), directory));
    }
  }
  if (!record.unified.empty())
    FLUYT_TRY(add(record.legacy.empty() ? "" : "unified", record.unified));
  return cgroups;
}

Result<NamedFds> join_cgroups(const Plan& plan, NamedFds cgroups) {
  const bool whole = cgroups.size() == 1 && cgroups.front().first.empty();
  // In a user namespace the tmpfs has to be the container's own.
  if (whole || cgroups.empty() || plan.namespaces.in_user_namespace()) return cgroups;
  const MountOptions& options = plan.mounts[plan.mounts_before_cgroups()].options;
  auto tree = FLUYT_TRY_CONTEXT(tree_of(cgroups, options), "cgroup mount");
  if (!tree) return cgroups;
  NamedFds out;
  out.emplace_back(std::string(), std::move(*tree));
  return out;
}

Result<sys::Fd> bind_in_root(const Plan& plan, const MountPlan& mount, sys::FdRef root) {
  const sys::Fd source = FLUYT_TRY(sys::open_in(root, mount.source_in_root, O_PATH));
  sys::Fd bind = FLUYT_TRY(sys::clone_mount(source, depth_of(mount)));
  FLUYT_TRY(finish_bind(bind, mount, bind_to(plan, {})));
  return bind;
}

namespace {

// In the container's mount namespace, with our rights and not the container's. It walks no path,
// for /proc too is the container's here, and whoever is in its PID namespace does not see this
// process.
Result<> bind_inside(const Plan& plan, const MountPlan& mount, sys::FdRef source, sys::FdRef space,
                     sys::FdRef users, sys::FdRef channel) {
  FLUYT_TRY(sys::close_all_but({source.raw(), space.raw(), users.raw(), channel.raw()}));
  FLUYT_TRY(sys::join_namespaces(space, CLONE_NEWNS));
  const sys::Fd bind = FLUYT_TRY(sys::clone_mount(source, depth_of(mount)));
  BindTo to = bind_to(plan, {});
  to.made_users = users;
  FLUYT_TRY(finish_bind(bind, mount, to));
  return send_packet(channel, Message::kGo, 0, {}, {bind});
}

}  // namespace

Result<sys::Fd> bind_for(const Plan& plan, const std::vector<sys::Fd>& joins, size_t place,
                         pid_t init, sys::FdRef source) {
  const MountPlan& mount = plan.mounts[place];
  const sys::Fd space = FLUYT_TRY(sys::open(cat("/proc/", init, "/ns/mnt"), O_RDONLY));
  const sys::Fd users = FLUYT_TRY(users_of(mount, bind_to(plan, joins).joined_users));
  sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  auto child = FLUYT_TRY(sys::clone_process({}));
  if (!child) {
    auto done = bind_inside(plan, mount, source, space, users, pair.second);
    if (!done.ok()) say_error(pair.second, done.error()).ignore("the end of file tells it too");
    _exit(0);
  }
  pair.second.reset();
  auto answer = receive_packet(pair.first, Deadline::never());
  child->wait(Deadline::never()).ignore("it has done what it was made for");
  auto packet = FLUYT_TRY(std::move(answer));
  if (packet && packet->kind == Message::kError) return error_of(*packet);
  if (!packet || packet->fds.size() != 1) return Error(Code::kInternal, "no bind was made");
  return std::move(packet->fds[0]);
}

}  // namespace fluyt::runtime
