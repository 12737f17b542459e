#include "runtime/checkpoint/verify.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/mount.h"
#include "sys/trace.h"

namespace fluyt::runtime::checkpoint {

namespace {

constexpr size_t kMaxText = 1U << 20U;
constexpr size_t kMaxFilters = 64;
constexpr int kCapSetuid = 7;
constexpr int kCapSysAdmin = 21;
constexpr int kCapSysResource = 24;

constexpr std::array<std::pair<uint64_t, const char*>, 8> kNamespaces = {
    {{CLONE_NEWNS, "mnt"},
     {CLONE_NEWPID, "pid"},
     {CLONE_NEWNET, "net"},
     {CLONE_NEWIPC, "ipc"},
     {CLONE_NEWUTS, "uts"},
     {CLONE_NEWUSER, "user"},
     {CLONE_NEWCGROUP, "cgroup"},
     {CLONE_NEWTIME, "time"}}};

bool holds(caps::Set set, int number) { return (set >> static_cast<unsigned>(number) & 1U) != 0; }

template <class... Pieces>
Error refuse(const Pieces&... pieces) {
  return Error(Code::kPermissionDenied, cat("the archive: ", pieces...));
}

std::string list(caps::Set set) { return join(caps::names_of(set), ", "); }

// The id outside of `inside` in the container.
uint32_t outside_of(const std::vector<sys::IdRange>& ranges, uint32_t inside) {
  if (ranges.empty()) return inside;
  for (const sys::IdRange& range : ranges) {
    if (inside >= range.inside && inside - range.inside < range.count)
      return range.outside + (inside - range.inside);
  }
  return UINT32_MAX;
}

Result<> check_capabilities(const Plan& plan, const ProcessState& seen) {
  const caps::Sets& given = plan.identity.capabilities;
  const caps::Set bounding = seen.capabilities.bounding & ~given.bounding;
  if (bounding != 0)
    return refuse("process ", seen.pid, ": process.capabilities.bounding lacks ", list(bounding));
  // Without no_new_privs a program with the set-user-id bit may take what the bounding set allows.
  const caps::Set most = plan.identity.no_new_privileges
                             ? given.permitted | given.inheritable | given.ambient
                             : given.bounding | given.permitted | given.inheritable | given.ambient;
  const caps::Set more = (seen.capabilities.permitted | seen.capabilities.effective |
                          seen.capabilities.inheritable | seen.capabilities.ambient) &
                         ~most;
  if (more != 0)
    return refuse("process ", seen.pid, ": process.capabilities do not give ", list(more));
  return {};
}

Result<> check_ids(const Plan& plan, const ProcessState& seen) {
  const IdentityPlan& identity = plan.identity;
  const bool may_change =
      !identity.no_new_privileges || holds(identity.capabilities.permitted, kCapSetuid);
  if (may_change) return {};
  const uint32_t uid = outside_of(plan.namespaces.uids, identity.uid);
  const uint32_t gid = outside_of(plan.namespaces.gids, identity.gid);
  const auto is = [](uint32_t wanted) { return [wanted](uint32_t id) { return id == wanted; }; };
  if (!std::all_of(seen.uids.begin(), seen.uids.end(), is(uid)))
    return refuse("process ", seen.pid, ": process.user.uid is ", identity.uid,
                  ", and it has another");
  if (!std::all_of(seen.gids.begin(), seen.gids.end(), is(gid)))
    return refuse("process ", seen.pid, ": process.user.gid is ", identity.gid,
                  ", and it has another");
  for (const uint32_t group : seen.groups) {
    const bool given =
        group == gid ||
        std::any_of(identity.groups.begin(), identity.groups.end(),
                    [&](gid_t known) { return outside_of(plan.namespaces.gids, known) == group; });
    if (!given)
      return refuse("process ", seen.pid, ": process.user.additionalGids do not give ", group);
  }
  return {};
}

Result<> check_namespaces(const Plan& plan, const ProcessState& seen, const ProcessState& ours,
                          const std::map<uint64_t, uint64_t>& joined) {
  for (const auto& [type, name] : kNamespaces) {
    const auto its = seen.namespaces.find(type);
    const auto own = ours.namespaces.find(type);
    if (its == seen.namespaces.end() || own == ours.namespaces.end()) continue;
    const auto shared = joined.find(type);
    if (shared != joined.end()) {
      if (its->second != shared->second)
        return refuse("process ", seen.pid, ": linux.namespaces: not in the ", name,
                      " namespace that is named");
      continue;
    }
    const bool wanted = plan.namespaces.has(type);
    if (wanted && its->second == own->second)
      return refuse("process ", seen.pid, ": linux.namespaces: in the host's ", name, " namespace");
    // CRIU gives a time namespace, so that clocks go on where they stood.
    if (!wanted && type != CLONE_NEWTIME && its->second != own->second &&
        !holds(plan.identity.capabilities.bounding, kCapSysAdmin)) {
      return refuse("process ", seen.pid, ": linux.namespaces: in a ", name,
                    " namespace of its own");
    }
  }
  return {};
}

Result<> check_limits(const Plan& plan, const ProcessState& seen, const ProcessState& ours) {
  if (!holds(plan.identity.capabilities.permitted, kCapSysResource)) {
    for (const auto& [resource, hard] : seen.hard_limits) {
      uint64_t most = UINT64_MAX;
      const auto own = ours.hard_limits.find(resource);
      if (own != ours.hard_limits.end()) most = own->second;
      for (const RlimitPlan& limit : plan.identity.rlimits) {
        if (limit.resource == resource) most = limit.hard;
      }
      if (hard > most)
        return refuse("process ", seen.pid, ": process.rlimits: resource ", resource,
                      " has the hard limit ", hard, ", expected at most ", most);
    }
  }
  const int least = plan.identity.oom_score_adj.value_or(ours.oom_score_adj);
  if (seen.oom_score_adj < least)
    return refuse("process ", seen.pid, ": process.oomScoreAdj: ", seen.oom_score_adj,
                  ", expected at least ", least);
  return {};
}

Result<> check_label(const Plan& plan, const ProcessState& seen) {
  const IdentityPlan& identity = plan.identity;
  const std::string& wanted =
      identity.apparmor_profile.empty() ? identity.selinux_label : identity.apparmor_profile;
  if (wanted.empty() || wanted == "unconfined") return {};
  if (seen.security_label == wanted || seen.security_label.starts_with(wanted + " (")) return {};
  return refuse("process ", seen.pid, ": security label ", quote(seen.security_label),
                ", expected ", quote(wanted));
}

// "Name:\tvalue" lines.
std::map<std::string, std::string, std::less<>> fields_of(std::string_view text) {
  std::map<std::string, std::string, std::less<>> out;
  for (const std::string_view line : split(text, '\n')) {
    const size_t colon = line.find(':');
    if (colon != std::string_view::npos)
      out.emplace(line.substr(0, colon), trim(line.substr(colon + 1)));
  }
  return out;
}

struct Flag {
  uint64_t attribute;
  const char* option;
};
constexpr std::array<Flag, 4> kFlags = {{{MOUNT_ATTR_RDONLY, "ro"},
                                         {MOUNT_ATTR_NOSUID, "nosuid"},
                                         {MOUNT_ATTR_NODEV, "nodev"},
                                         {MOUNT_ATTR_NOEXEC, "noexec"}}};

// What the mount at a place has once the specification's later words about it are heard too.
uint64_t wanted_attributes(const Plan& plan, size_t place) {
  const MountPlan& mount = plan.mounts[place];
  uint64_t set = mount.options.set | mount.options.tree_set;
  if (mount.kind == MountKind::kCgroup && !plan.namespaces.has(CLONE_NEWCGROUP))
    set |= MOUNT_ATTR_RDONLY;
  for (size_t i = place + 1; i < plan.mounts.size(); ++i) {
    if (plan.mounts[i].kind != MountKind::kRemount) continue;
    if (plan.mounts[i].destination != mount.destination) continue;
    set = (set & ~plan.mounts[i].options.clear) | plan.mounts[i].options.set;
  }
  return set;
}

bool covered_later(const Plan& plan, size_t place) {
  for (size_t i = place + 1; i < plan.mounts.size(); ++i) {
    if (plan.mounts[i].kind != MountKind::kRemount &&
        plan.mounts[i].destination == plan.mounts[place].destination)
      return true;
  }
  return false;
}

const MountInfo* find_mount(const std::vector<MountInfo>& mounts, uint64_t id) {
  const auto found = std::find_if(mounts.begin(), mounts.end(),
                                  [&](const MountInfo& mount) { return mount.id == id; });
  return found == mounts.end() ? nullptr : &*found;
}

Result<> check_planned(const Plan& plan, size_t place, const MountInfo& mount) {
  const MountPlan& wanted = plan.mounts[place];
  const std::string field =
      cat("mounts[", wanted.index, "]: ", quote(wanted.destination, 1024), ": ");
  const uint64_t attributes = wanted_attributes(plan, place);
  for (const Flag& flag : kFlags) {
    if ((attributes & flag.attribute) != 0 && !mount.has(flag.option))
      return refuse(field, "is not ", flag.option);
  }
  const bool made_inside = wanted.kind == MountKind::kFs || wanted.kind == MountKind::kProc ||
                           wanted.kind == MountKind::kSysfs;
  if (made_inside && mount.type != wanted.type)
    return refuse(field, "is of type ", quote(mount.type), ", expected ", quote(wanted.type));
  if (made_inside && mount.root != "/") return refuse(field, "shows a part of its file system");
  return {};
}

bool is_virtual(std::string_view type) {
  constexpr std::array<std::string_view, 8> kTypes = {"tmpfs",  "proc",   "sysfs",   "mqueue",
                                                      "devpts", "cgroup", "cgroup2", "ramfs"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

// One more view of a file system that the plan mounts anyway, as restricted as the plan's own:
// /dev/console is one of devpts.
bool is_second_view(const Plan& plan, const Placed& placed, const std::vector<MountInfo>& mounts,
                    const MountInfo& mount) {
  if (mount.type != "devpts" && mount.type != "tmpfs") return false;
  for (const auto& [place, id] : placed.mounts) {
    const MountInfo* planned = find_mount(mounts, id);
    if (planned == nullptr || planned->device != mount.device) continue;
    if (plan.mounts[place].kind != MountKind::kFs) continue;
    const auto as_restricted = [&](const Flag& flag) {
      return !planned->has(flag.option) || mount.has(flag.option);
    };
    if (std::all_of(kFlags.begin(), kFlags.end(), as_restricted)) return true;
  }
  return false;
}

Result<> check_unplanned(const Plan& plan, const Placed& placed,
                         const std::vector<MountInfo>& mounts, const MountInfo& mount) {
  if (is_second_view(plan, placed, mounts, mount)) return {};
  if (holds(plan.identity.capabilities.bounding, kCapSysAdmin) && is_virtual(mount.type)) return {};
  return refuse("mount at ", quote(mount.point, 1024), " of type ", quote(mount.type),
                ": not of the specification's mounts");
}

Result<uint64_t> inode_of(sys::FdRef fd) { return FLUYT_TRY(sys::stat_of(fd)).st_ino; }

// The mount ids of what the container has from its creator.
Result<std::set<uint64_t>> own_mounts_of_stdio() {
  std::set<uint64_t> out;
  for (int number = 0; number < 3; ++number)
    out.insert(FLUYT_TRY(sys::mountinfo_id(sys::FdRef(number))));
  return out;
}

Result<> check_file(pid_t pid, const std::string& name, const std::set<uint64_t>& allowed) {
  auto file = sys::open(cat("/proc/", pid, "/", name), O_PATH);
  if (!file.ok()) return {};  // closed meanwhile: by nobody who runs; or nothing to open
  if (allowed.count(FLUYT_TRY(sys::mountinfo_id(*file))) != 0) return {};
  return refuse("process ", pid, ": ", name, " lies outside of the container's mounts");
}

// CVE-2024-21626's class: no process may hold a file of the host.
Result<> check_files(pid_t pid, const std::set<uint64_t>& inside,
                     const std::set<uint64_t>& inherited) {
  for (const char* name : {"cwd", "root", "exe"}) FLUYT_TRY(check_file(pid, name, inside));
  std::set<uint64_t> allowed = inside;
  allowed.insert(inherited.begin(), inherited.end());
  const std::string folder = cat("/proc/", pid, "/fd");
  for (const std::string& number : FLUYT_TRY(sys::list_dir(folder))) {
    auto link = sys::read_link(sys::kCwd, cat(folder, "/", number));
    if (!link.ok() || !link->starts_with('/') || link->starts_with("/memfd:")) continue;
    FLUYT_TRY(check_file(pid, cat("fd/", number), allowed));
  }
  return {};
}

// A masked path that the image has is covered; one that is to be read-only is.
Result<> check_paths(const Plan& plan, sys::FdRef root, const std::vector<MountInfo>& mounts,
                     Placed& placed) {
  for (const std::string& path : plan.masked_paths) {
    auto there = sys::open_in(root, path, O_PATH);
    if (!there.ok()) continue;
    const struct stat info = FLUYT_TRY(sys::stat_of(*there));
    const MountInfo* mount = find_mount(mounts, FLUYT_TRY(sys::mountinfo_id(*there)));
    const bool null = S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3);
    const bool empty = S_ISDIR(info.st_mode) && mount != nullptr && mount->type == "tmpfs" &&
                       mount->has("ro") && placed.keys.count(mount->id) != 0;
    if (!null && !empty) return refuse("linux.maskedPaths: ", quote(path), ": is not masked");
  }
  for (const std::string& path : plan.read_only_paths) {
    auto there = sys::open_in(root, path, O_PATH);
    if (!there.ok()) continue;
    const uint64_t id = FLUYT_TRY(sys::mountinfo_id(*there));
    const MountInfo* mount = find_mount(mounts, id);
    if (mount == nullptr || !mount->has("ro"))
      return refuse("linux.readonlyPaths: ", quote(path), ": can be written to");
    placed.keys.emplace(id, "");
  }
  return {};
}

Result<> check_sources(const Plan& plan, const HostSide& host, sys::FdRef root) {
  for (size_t i = 0; i < plan.mounts.size(); ++i) {
    if (!host.mounts[i].valid() || covered_later(plan, i)) continue;
    const sys::Fd there = FLUYT_TRY(sys::open_in(root, plan.mounts[i].destination, O_PATH));
    const struct stat seen = FLUYT_TRY(sys::stat_of(there));
    const struct stat wanted = FLUYT_TRY(sys::stat_of(host.mounts[i]));
    if (seen.st_dev != wanted.st_dev || seen.st_ino != wanted.st_ino)
      return refuse("mounts[", plan.mounts[i].index, "]: ", quote(plan.mounts[i].destination, 1024),
                    ": does not show its source");
  }
  return {};
}

Result<> check_root(const HostSide& host, sys::FdRef root) {
  const struct stat seen = FLUYT_TRY(sys::stat_of(root));
  const struct stat wanted = FLUYT_TRY(sys::stat_of(host.root));
  if (seen.st_dev == wanted.st_dev && seen.st_ino == wanted.st_ino) return {};
  return refuse("root.path: the root is another directory");
}

Result<> check_id_maps(const Plan& plan, pid_t pid) {
  if (!plan.namespaces.new_user) return {};
  for (const auto& [name, ranges] :
       {std::pair("uid_map", &plan.namespaces.uids), std::pair("gid_map", &plan.namespaces.gids)}) {
    const std::string text = FLUYT_TRY(sys::read_file(cat("/proc/", pid, "/", name), kMaxText));
    std::vector<sys::IdRange> seen;
    for (const std::string_view line : split(trim(text), '\n')) {
      const auto words = split_words(line);
      if (words.size() != 3) continue;
      seen.push_back({parse_number<uint32_t>(words[0]).value_or(0),
                      parse_number<uint32_t>(words[1]).value_or(0),
                      parse_number<uint32_t>(words[2]).value_or(0)});
    }
    if (seen != *ranges) return refuse("linux.uidMappings: ", name, " is another");
  }
  return {};
}

Result<std::map<uint64_t, uint64_t>> inodes_of_joins(const Plan& plan, const HostSide& host) {
  std::map<uint64_t, uint64_t> out;
  for (size_t i = 0; i < host.joins.size(); ++i)
    out[plan.namespaces.joins[i].type] = FLUYT_TRY(inode_of(host.joins[i]));
  return out;
}

}  // namespace

Result<ProcessState> parse_status(std::string_view text) {
  const auto fields = fields_of(text);
  const auto find = [&](std::string_view name) -> Result<std::string_view> {
    const auto found = fields.find(name);
    if (found == fields.end()) return Error(Code::kDataLoss, cat("status: no field ", name));
    return std::string_view(found->second);
  };
  ProcessState out;
  out.pid = parse_number<pid_t>(FLUYT_TRY(find("Pid"))).value_or(0);
  for (const auto& [name, ids] : {std::pair("Uid", &out.uids), std::pair("Gid", &out.gids)}) {
    const auto words = split_words(FLUYT_TRY(find(name)));
    if (words.size() != 4) return Error(Code::kDataLoss, cat("status: ", name));
    for (size_t i = 0; i < 4; ++i) (*ids)[i] = parse_number<uint32_t>(words[i]).value_or(0);
  }
  for (const std::string_view group : split_words(FLUYT_TRY(find("Groups"))))
    out.groups.push_back(parse_number<uint32_t>(group).value_or(0));
  for (const auto& [name, set] : {std::pair("CapInh", &out.capabilities.inheritable),
                                  std::pair("CapPrm", &out.capabilities.permitted),
                                  std::pair("CapEff", &out.capabilities.effective),
                                  std::pair("CapBnd", &out.capabilities.bounding),
                                  std::pair("CapAmb", &out.capabilities.ambient)}) {
    const auto value = parse_number<uint64_t>(FLUYT_TRY(find(name)), 16);
    if (!value) return Error(Code::kDataLoss, cat("status: ", name));
    *set = *value;
  }
  out.no_new_privileges = FLUYT_TRY(find("NoNewPrivs")) == "1";
  out.seccomp = parse_number<int>(FLUYT_TRY(find("Seccomp"))).value_or(0);
  return out;
}

std::string parse_security_label(std::string_view text) {
  while (text.ends_with('\0')) text.remove_suffix(1);
  return std::string(trim(text));
}

Result<ProcessState> read_process(pid_t pid) {
  const std::string folder = cat("/proc/", pid, "/");
  ProcessState out =
      FLUYT_TRY(parse_status(FLUYT_TRY(sys::read_file(folder + "status", kMaxText))));
  for (const auto& [type, name] : kNamespaces) {
    auto space = sys::open(cat(folder, "ns/", name), O_PATH);
    if (space.ok()) out.namespaces[type] = FLUYT_TRY(inode_of(*space));
  }
  const std::string score = FLUYT_TRY(sys::read_file(folder + "oom_score_adj", 64));
  out.oom_score_adj = parse_number<int>(trim(score)).value_or(0);
  // Without an LSM the file cannot be read.
  out.security_label =
      parse_security_label(sys::read_file(folder + "attr/current", 4096).value_or(""));
  for (int resource = 0; resource < static_cast<int>(RLIM_NLIMITS); ++resource)
    out.hard_limits[resource] = FLUYT_TRY(sys::get_rlimit(pid, resource)).hard;
  return out;
}

Result<> check_process(const Plan& plan, const ProcessState& seen, const ProcessState& ours,
                       const std::map<uint64_t, uint64_t>& joined) {
  FLUYT_TRY(check_capabilities(plan, seen));
  if (plan.identity.no_new_privileges && !seen.no_new_privileges)
    return refuse("process ", seen.pid, ": process.noNewPrivileges is not set");
  if (plan.seccomp && seen.seccomp != 2)
    return refuse("process ", seen.pid, ": linux.seccomp: it has no filter");
  FLUYT_TRY(check_ids(plan, seen));
  FLUYT_TRY(check_namespaces(plan, seen, ours, joined));
  FLUYT_TRY(check_limits(plan, seen, ours));
  return check_label(plan, seen);
}

Result<> check_filters(const Plan& plan, const std::vector<std::string>& filters) {
  if (!plan.seccomp) return {};
  const auto& code = plan.seccomp->code;
  std::string wanted(code.size() * sizeof(seccomp::Instruction), '\0');
  std::memcpy(wanted.data(), code.data(), wanted.size());
  // Whatever lies beside it can only forbid more.
  if (std::find(filters.begin(), filters.end(), wanted) != filters.end()) return {};
  return refuse("linux.seccomp: none of its ", filters.size(), " filters is the specification's");
}

Result<> check_mounts(const Plan& plan, const Placed& placed, const std::vector<MountInfo>& mounts,
                      uint64_t root_mount) {
  std::set<uint64_t> planned;
  for (const auto& [place, id] : placed.mounts) {
    planned.insert(id);
    const MountInfo* mount = find_mount(mounts, id);
    if (mount == nullptr || id == root_mount)
      return refuse("mounts[", plan.mounts[place].index, "]: is not there");
    if (!covered_later(plan, place)) FLUYT_TRY(check_planned(plan, place, *mount));
  }
  for (const MountInfo& mount : mounts) {
    if (mount.id == root_mount) {
      if (plan.root_read_only && !mount.has("ro")) return refuse("root.readonly: it is not");
      continue;
    }
    if (planned.count(mount.id) != 0 || placed.keys.count(mount.id) != 0) continue;
    FLUYT_TRY(check_unplanned(plan, placed, mounts, mount));
  }
  return {};
}

Result<> verify(const Plan& plan, const HostSide& host, const Archive& archive, pid_t init,
                const std::vector<pid_t>& pids) {
  const ProcessState ours = FLUYT_TRY(read_process(getpid()));
  const auto joined = FLUYT_TRY(inodes_of_joins(plan, host));
  const ProcessState first = FLUYT_TRY(read_process(init));
  FLUYT_TRY(check_id_maps(plan, init));

  const sys::Fd root = FLUYT_TRY(sys::open(cat("/proc/", init, "/root"), O_PATH | O_DIRECTORY));
  FLUYT_TRY(check_root(host, root));
  const auto mounts = FLUYT_TRY(read_mountinfo(init));
  std::vector<std::string> cgroups;
  for (const auto& [name, mount] : host.cgroups) cgroups.push_back(name);
  auto placed = place_mounts(plan, root, cgroups, mounts);
  if (!placed.ok()) return refuse(placed.error().message());
  if (placed->submounts != archive.submounts)
    return refuse("mounts below a recursive bind: not those of the dump");
  FLUYT_TRY(check_paths(plan, root, mounts, *placed));
  FLUYT_TRY(check_mounts(plan, *placed, mounts, FLUYT_TRY(sys::mountinfo_id(root))));
  FLUYT_TRY(check_sources(plan, host, root));

  std::set<uint64_t> inside;
  for (const MountInfo& mount : mounts) inside.insert(mount.id);
  const std::set<uint64_t> inherited = FLUYT_TRY(own_mounts_of_stdio());
  for (const pid_t pid : pids) {
    const ProcessState seen = FLUYT_TRY(read_process(pid));
    FLUYT_TRY(check_process(plan, seen, ours, joined));
    // What was compared above is of the first process's mounts and users.
    for (const uint64_t type : {uint64_t{CLONE_NEWNS}, uint64_t{CLONE_NEWUSER}}) {
      if (seen.namespaces.at(type) != first.namespaces.at(type))
        return refuse("process ", pid, ": in a mount or user namespace of its own");
    }
    FLUYT_TRY(check_files(pid, inside, inherited));
  }
  return {};
}

Result<> verify_filters(const Plan& plan, pid_t pid) {
  if (!plan.seccomp) return {};
  for (const std::string& name : FLUYT_TRY(sys::list_dir(cat("/proc/", pid, "/task")))) {
    const auto thread = parse_number<pid_t>(name);
    if (!thread) continue;
    FLUYT_TRY_CONTEXT(check_filters(plan, FLUYT_TRY(sys::seccomp_filters_of(*thread, kMaxFilters))),
                      cat("thread ", *thread));
  }
  return {};
}

}  // namespace fluyt::runtime::checkpoint
