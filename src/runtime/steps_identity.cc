#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.h"
#include "runtime/caps/caps.h"
#include "runtime/first_process.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/mount.h"
#include "sys/pty.h"

namespace fluyt::runtime {

namespace {

// Writes below a procfs: no link, no other mount on the way, and what was opened is of procfs
// (CVE-2025-52881).
Result<> write_proc(sys::FdRef proc, const std::string& path, std::string_view value) {
  const sys::Fd file =
      FLUYT_TRY(sys::open_in(proc, path, O_WRONLY | O_NOFOLLOW, 0, sys::Resolve::kBeneath,
                             RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV));
  if (FLUYT_TRY(sys::fs_magic(file)) != sys::kProcMagic)
    return Error(Code::kInternal, "not a file of procfs");
  return sys::write_all(file, value);
}

}  // namespace

Result<> set_scheduler(const Plan& plan, pid_t pid) {
  auto set = sys::set_scheduler(pid, *plan.identity.scheduler);
  if (set.ok()) return {};
  const bool few_cpus = plan.resources.cpu && !plan.resources.cpu->cpus.empty();
  if (few_cpus && set.error().errno_value() == EPERM) {
    // A deadline is promised by all CPUs together.
    return std::move(set).error().add_context(
        "process.scheduler: process scheduler can't be used together with AllowedCPUs "
        "(linux.resources.cpu.cpus)");
  }
  return std::move(set).error().add_context("process.scheduler");
}

Result<> set_names(Inside& in) {
  if (!in.plan.host_name.empty())
    FLUYT_TRY_CONTEXT(sys::set_host_name(in.plan.host_name), "hostname");
  if (!in.plan.domain_name.empty())
    FLUYT_TRY_CONTEXT(sys::set_domain_name(in.plan.domain_name), "domainname");
  return {};
}

Result<> write_sysctls(Inside& in) {
  const sys::Fd proc = FLUYT_TRY(own_procfs());
  for (const SysctlPlan& sysctl : in.plan.sysctls) {
    FLUYT_TRY_CONTEXT(write_proc(proc, cat("sys/", sysctl.path), sysctl.value),
                      cat("linux.sysctl[", quote(sysctl.key), "]"));
  }
  return {};
}

// Before anything is joined or made: a user namespace gets a new procfs only where one is mounted
// that nothing lies over (mount_namespaces(7)), and when labels are set there are masks. A thread
// is in the procfs of each PID namespace above its own, too, and what it forks has the labels it
// set.
Result<> open_proc_before(Inside& in) {
  const IdentityPlan& identity = in.plan.identity;
  if (identity.apparmor_profile.empty() && identity.selinux_label.empty()) return {};
  auto own = own_procfs();
  if (!own.ok() && own.error().errno_value() == EPERM) {  // our caller is in a user namespace
    own = sys::open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW);
  }
  in.proc_before = FLUYT_TRY(std::move(own));
  return {};
}

// The keyring has the label of the program that it is for; execve(2) takes keycreate back.
Result<> new_keyring(Inside& in) {
  const std::string& label = in.plan.identity.selinux_label;
  const std::string name = cat("_ses.", in.plan.id);
  if (label.empty()) return sys::new_session_keyring(name);
  const std::string self = FLUYT_TRY(sys::read_link(in.proc_before, "thread-self"));
  FLUYT_TRY_CONTEXT(write_proc(in.proc_before, cat(self, "/attr/keycreate"), label),
                    cat("process.selinuxLabel: ", quote(label), ": of the keyring"));
  return sys::new_session_keyring(name);
}

Result<> set_scheduling(Inside& in) {
  const IdentityPlan& identity = in.plan.identity;
  // It may not outlive a fork: where one comes, the maker gives it to the program's process.
  if (identity.scheduler && in.plan.namespaces.fork != NamespacePlan::Fork::kLate)
    FLUYT_TRY(set_scheduler(in.plan, 0));
  if (identity.io_priority)
    FLUYT_TRY_CONTEXT(sys::set_io_priority(*identity.io_priority), "process.ioPriority");
  if (in.plan.personality)
    FLUYT_TRY_CONTEXT(sys::set_personality(*in.plan.personality), "linux.personality");
  if (in.plan.memory_policy) {
    FLUYT_TRY_CONTEXT(
        sys::set_memory_policy(in.plan.memory_policy->mode, in.plan.memory_policy->nodes),
        "linux.memoryPolicy");
  }
  return {};
}

Result<> set_security_labels(Inside& in) {
  const IdentityPlan& identity = in.plan.identity;
  const sys::Fd proc = std::move(in.proc_before);
  // "thread-self" is a link of procfs, so the number it shows is resolved first.
  const std::string self = FLUYT_TRY(sys::read_link(proc, "thread-self"));
  if (!identity.apparmor_profile.empty()) {
    const std::string path = FLUYT_TRY(sys::find_stat(proc, cat(self, "/attr/apparmor")))
                                 ? cat(self, "/attr/apparmor/exec")
                                 : cat(self, "/attr/exec");
    FLUYT_TRY_CONTEXT(write_proc(proc, path, cat("exec ", identity.apparmor_profile)),
                      cat("process.apparmorProfile: ", quote(identity.apparmor_profile)));
  }
  if (!identity.selinux_label.empty()) {
    FLUYT_TRY_CONTEXT(write_proc(proc, cat(self, "/attr/exec"), identity.selinux_label),
                      cat("process.selinuxLabel: ", quote(identity.selinux_label)));
  }
  return {};
}

// Few descriptors may be allowed from here on, and others may look at us soon: what only the mounts
// needed goes.
Result<> let_go(Inside& in) {
  if (in.read_only_dev.valid()) {
    FLUYT_TRY(sys::set_mount_attributes(
        in.read_only_dev,
        {.set = MOUNT_ATTR_RDONLY, .clear = 0, .propagation = 0, .user_namespace = {}},
        sys::Depth::kOne));
    in.read_only_dev.reset();
  }
  in.host.root.reset();
  in.host.mounts.clear();
  in.host.joins.clear();
  in.host.device_nodes.clear();
  in.host.cgroups.clear();
  in.host.null_mount.reset();
  in.early.clear();
  in.mask_dir.reset();
  in.devpts.reset();
  in.proc.reset();
  in.sysfs.reset();
  return {};
}

Result<> set_rlimits(Inside& in) {
  for (const RlimitPlan& limit : in.plan.identity.rlimits) {
    if (limit.resource == RLIMIT_NPROC && in.plan.namespaces.fork == NamespacePlan::Fork::kLate) {
      // It counts the program, not the process that makes it: lowered behind the fork, raised here
      // where we have the right to.
      const sys::Limits now = FLUYT_TRY(sys::get_rlimit(0, limit.resource));
      const uint64_t hard = std::max(now.hard, limit.hard);
      FLUYT_TRY_CONTEXT(sys::set_rlimit(0, limit.resource, hard, hard),
                        "process.rlimits: RLIMIT_NPROC");
      continue;
    }
    FLUYT_TRY_CONTEXT(sys::set_rlimit(0, limit.resource, limit.soft, limit.hard),
                      cat("process.rlimits: ", limit.name));
  }
  return {};
}

Result<> give_stdio(Inside& in) {
  // So that a program that is not root can open /dev/stdout again. Only pipes: they are nobody
  // else's.
  for (const sys::FdRef fd : {in.p.stdio.in, in.p.stdio.out, in.p.stdio.err}) {
    if (!fd.valid()) continue;
    const struct stat info = FLUYT_TRY(sys::stat_of(fd));
    if (!S_ISFIFO(info.st_mode)) continue;
    sys::set_owner(fd, in.plan.identity.uid, in.plan.identity.gid)
        .ignore("a pipe of another user namespace: it works as it is");
  }
  return {};
}

Result<> load_seccomp(Inside& in) {
  in.listener = FLUYT_TRY_CONTEXT(seccomp::load(*in.plan.seccomp), "linux.seccomp");
  if (!in.listener.valid()) return {};
  // By number, for the filter may be watching sendmsg(2) already; the maker fetches it. An exec
  // must not be gone before it has; a container waits at its gate.
  if (!in.p.gate.valid()) return ask_maker(in, Message::kListener, in.listener.raw());
  return say(in.p.channel, Message::kListener, in.listener.raw());
}

Result<> take_identity(Inside& in) {
  const IdentityPlan& identity = in.plan.identity;
  FLUYT_TRY(caps::drop_bounding(identity.capabilities, identity.last_capability));
  FLUYT_TRY(caps::keep_over_setuid());
  FLUYT_TRY_CONTEXT(
      sys::set_ids(identity.uid, identity.gid,
                   identity.keeps_groups ? std::nullopt : std::optional(identity.groups)),
      "process.user");
  FLUYT_TRY_CONTEXT(caps::apply(identity.capabilities), "process.capabilities");
  sys::set_umask(identity.umask.value_or(022));
  return sys::set_dumpable(false);
}

}  // namespace fluyt::runtime
