#include <algorithm>

#include "base/strings.h"
#include "runtime/plan.h"

namespace fluyt::runtime {

namespace {

// The user namespace first, for it gives the right to join what it owns; the mount namespace last,
// for it takes the host's paths away.
int join_order(uint64_t type) {
  if (type == CLONE_NEWUSER) return 0;
  return type == CLONE_NEWNS ? 2 : 1;
}

std::vector<sys::IdRange> ranges(const std::vector<oci::IdMapping>& mappings) {
  std::vector<sys::IdRange> out;
  for (const auto& mapping : mappings) {
    out.push_back({mapping.container_id, mapping.host_id, mapping.size});
  }
  return out;
}

Result<std::string> offsets_text(const oci::Linux& config, bool new_time) {
  if (config.time_offsets.empty()) return std::string();
  if (!new_time) {
    return Error(Code::kInvalidArgument, "linux.timeOffsets: needs a new time namespace");
  }
  std::string text;
  for (const auto& [clock, offset] : config.time_offsets) {
    if (clock != "monotonic" && clock != "boottime") {
      return Error(Code::kInvalidArgument,
                   cat("linux.timeOffsets: ", quote(clock), ": expected monotonic or boottime"));
    }
    text += cat(clock, " ", offset.secs, " ", offset.nanosecs, "\n");
  }
  return text;
}

// Which namespaces can be made by clone3(2) itself, and whether the program needs a process of its
// own. What a new user namespace shall own must be made after it; what an older one owns must be
// joined before; a PID or time namespace takes in children only.
void arrange(NamespacePlan& plan, uint64_t created) {
  const bool joins_user = std::any_of(plan.joins.begin(), plan.joins.end(),
                                      [](const auto& join) { return join.type == CLONE_NEWUSER; });
  const bool joins_pid = std::any_of(plan.joins.begin(), plan.joins.end(),
                                     [](const auto& join) { return join.type == CLONE_NEWPID; });
  const bool new_time = (created & CLONE_NEWTIME) != 0;
  const bool staged = joins_user || joins_pid || new_time || (plan.new_user && !plan.joins.empty());
  if (!staged) {
    // A network namespace takes the kernel as long as all others together: unless a new user
    // namespace shall own it, it is made by the process itself, while its maker makes the cgroups.
    const uint64_t later = plan.new_user ? 0 : created & uint64_t{CLONE_NEWNET};
    plan.at_clone = created & ~later;
    plan.unshared = later;
    return;
  }
  plan.unshared = created & ~uint64_t{CLONE_NEWUSER};
  if (joins_pid) {
    plan.fork = NamespacePlan::Fork::kLate;
  } else if ((created & CLONE_NEWPID) != 0 || new_time) {
    plan.fork = NamespacePlan::Fork::kEarly;
  }
}

}  // namespace

uint64_t namespace_flag(oci::NamespaceType type) {
  switch (type) {
    case oci::NamespaceType::kPid:
      return CLONE_NEWPID;
    case oci::NamespaceType::kNetwork:
      return CLONE_NEWNET;
    case oci::NamespaceType::kMount:
      return CLONE_NEWNS;
    case oci::NamespaceType::kIpc:
      return CLONE_NEWIPC;
    case oci::NamespaceType::kUts:
      return CLONE_NEWUTS;
    case oci::NamespaceType::kUser:
      return CLONE_NEWUSER;
    case oci::NamespaceType::kCgroup:
      return CLONE_NEWCGROUP;
    case oci::NamespaceType::kTime:
      return CLONE_NEWTIME;
  }
  return 0;
}

bool NamespacePlan::has(uint64_t type) const {
  if (((at_clone | unshared) & type) != 0) return true;
  if (type == CLONE_NEWUSER && new_user) return true;
  if (type == CLONE_NEWCGROUP && new_cgroup) return true;
  return std::any_of(joins.begin(), joins.end(),
                     [&](const Join& join) { return join.type == type; });
}

Result<NamespacePlan> plan_namespaces(const oci::Linux& config) {
  NamespacePlan plan;
  uint64_t created = 0;
  uint64_t seen = 0;
  for (size_t i = 0; i < config.namespaces.size(); ++i) {
    const oci::Namespace& asked = config.namespaces[i];
    const uint64_t flag = namespace_flag(asked.type);
    if ((seen & flag) != 0) {
      return Error(Code::kInvalidArgument,
                   cat("linux.namespaces[", i, "].type: ", quote(oci::namespace_name(asked.type)),
                       ": named twice"));
    }
    seen |= flag;
    if (asked.path.empty()) {
      created |= flag;
      continue;
    }
    if (!asked.path.starts_with('/')) {
      return Error(Code::kInvalidArgument, cat("linux.namespaces[", i, "].path: ",
                                               quote(asked.path), ": expected an absolute path"));
    }
    if (flag == CLONE_NEWNS) plan.mounts = NamespacePlan::Mounts::kJoined;
    plan.joins.push_back({flag, asked.path, i});
  }
  if ((seen & CLONE_NEWNS) == 0) plan.mounts = NamespacePlan::Mounts::kCallers;
  std::stable_sort(plan.joins.begin(), plan.joins.end(), [](const auto& a, const auto& b) {
    return join_order(a.type) < join_order(b.type);
  });
  plan.new_user = (created & CLONE_NEWUSER) != 0;
  plan.new_network = (created & CLONE_NEWNET) != 0;
  plan.new_cgroup = (created & CLONE_NEWCGROUP) != 0;
  plan.uids = ranges(config.uid_mappings);
  plan.gids = ranges(config.gid_mappings);
  if (plan.new_user && plan.uids.empty() && plan.gids.empty()) {
    // Every id is itself, as for crun: the capabilities are those of the namespace all the same.
    plan.uids = plan.gids = {{.inside = 0, .outside = 0, .count = UINT32_MAX}};
  }
  if (plan.new_user && (plan.uids.empty() || plan.gids.empty())) {
    return Error(Code::kInvalidArgument,
                 "linux.uidMappings, linux.gidMappings: expected both or neither");
  }
  if ((seen & CLONE_NEWUSER) == 0 && !(plan.uids.empty() && plan.gids.empty())) {
    return Error(Code::kInvalidArgument, "linux.uidMappings: needs a user namespace");
  }
  plan.time_offsets = FLUYT_TRY(offsets_text(config, (created & CLONE_NEWTIME) != 0));
  // The cgroup namespace is rooted where the process is when it makes it: after it joined its
  // cgroup.
  arrange(plan, created & ~uint64_t{CLONE_NEWCGROUP});
  return plan;
}

}  // namespace fluyt::runtime
