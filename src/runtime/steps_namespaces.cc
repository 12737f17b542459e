#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "runtime/first_process.h"
#include "sys/clone.h"
#include "sys/identity.h"
#include "sys/mount.h"

namespace fluyt::runtime {

Result<> join_planned(Inside& in) {
  FLUYT_TRY(open_procs(in));
  const std::vector<NamespacePlan::Join>& joins = in.plan.namespaces.joins;
  auto join = [&](size_t i) -> Result<> {
    FLUYT_TRY_CONTEXT(sys::join_namespaces(in.host.joins[i], joins[i].type),
                      cat("linux.namespaces[", joins[i].index, "]: ", quote(joins[i].path)));
    return {};
  };
  // A user namespace comes first, and with it the rights to what it owns. What it does not own is
  // joined before, with the rights that we have here; what cannot be, waits for those.
  std::vector<bool> joined(joins.size());
  const bool user = !joins.empty() && joins.front().type == CLONE_NEWUSER;
  for (size_t i = 1; user && i < joins.size(); ++i) {
    auto done = join(i);
    if (!done.ok() && done.error().errno_value() != EPERM) return done;
    joined[i] = done.ok();
  }
  for (size_t i = 0; i < joins.size(); ++i) {
    // Ids are taken over in kBecomeRoot; capabilities came with the join.
    if (!joined[i]) FLUYT_TRY(join(i));
  }
  return {};
}

Result<> join_container(Inside& in) {
  FLUYT_TRY(cgroup::enter(in.host.tasks));
  // Gone before anybody there can look for them. By number: the objects may be our maker's.
  for (const sys::Fd& file : in.host.tasks) ::close(file.raw());
  // All at once, by pidfd: it cannot have become another process, and either all are joined or
  // none.
  if (in.p.container_types != 0)
    FLUYT_TRY(sys::join_namespaces(in.p.container_init, in.p.container_types));
  if ((in.p.container_types & CLONE_NEWUSER) != 0) FLUYT_TRY(become_root(in));
  if (in.host.root.valid()) {
    FLUYT_TRY(sys::change_directory(in.host.root));
    return sys::enter_attached_root();
  }
  return sys::change_directory_to("/");
}

Result<> make_user_namespace(Inside& in) {
  FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWUSER));
  return ask_maker(in, Message::kWantIdMaps);
}

Result<> make_namespaces(Inside& in) {
  FLUYT_TRY(sys::unshare_namespaces(in.plan.namespaces.unshared));
  if ((in.plan.namespaces.unshared & CLONE_NEWTIME) != 0 &&
      !in.plan.namespaces.time_offsets.empty()) {
    return ask_maker(in, Message::kWantOffsets);
  }
  return {};
}

Result<> become_root(Inside& in) {
  const bool keeps = in.plan.identity.keeps_groups;
  FLUYT_TRY(sys::set_ids(0, 0, keeps ? std::nullopt : std::optional(std::vector<gid_t>())));
  return sys::set_dumpable(false);
}

Result<> cgroup_namespace(Inside& /*in*/) {
  // Only now: its root is the cgroup that we are in.
  return sys::unshare_namespaces(CLONE_NEWCGROUP);
}

Result<> fork_on(Inside& in) {
  // A sibling, not a child: our maker, or its parent, shall be the one that reaps it.
  auto child = FLUYT_TRY(sys::clone_process({.flags = CLONE_PARENT, .cgroup = {}}));
  if (child) {
    // The maker asks for its pidfd, moves it and lets it go on.
    auto told = say(in.p.channel, Message::kForked, child->pid());
    if (!told.ok()) child->kill(9).ignore("nobody will know of it");
    _exit(told.ok() ? 0 : 1);
  }
  FLUYT_TRY(wait_for_go(in));
  if (in.plan.namespaces.fork != NamespacePlan::Fork::kLate) return {};
  for (const RlimitPlan& limit : in.plan.identity.rlimits) {
    if (limit.resource == RLIMIT_NPROC) {
      FLUYT_TRY_CONTEXT(sys::set_rlimit(0, limit.resource, limit.soft, limit.hard),
                        "process.rlimits: RLIMIT_NPROC");
    }
  }
  return {};
}

}  // namespace fluyt::runtime
