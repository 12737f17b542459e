#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/strings.h"
#include "runtime/copy_up.h"
#include "runtime/first_process.h"
#include "runtime/target.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/socket.h"

namespace fluyt::runtime {

namespace {

Result<> set_options(sys::FsContext& context, const MountPlan& mount) {
  for (const auto& [key, value] : mount.options.data) {
    FLUYT_TRY(value.empty() ? context.set_flag(key) : context.set_string(key, value));
  }
  return {};
}

bool lies_in(const std::string& path, std::string_view folder) {
  return path == folder || path.starts_with(cat(folder, "/"));
}

// The text of the destination was checked by the plan; the image's links decide where it leads, and
// must not lead over what we and the tools that join the container rely on (CVE-2019-16884).
Result<> check_not_system(const MountPlan& mount, sys::FdRef target) {
  const uint64_t magic = FLUYT_TRY(sys::fs_magic(target));
  if ((magic == sys::kProcMagic && !lies_in(mount.destination, "/proc")) ||
      (magic == sys::kSysfsMagic && !lies_in(mount.destination, "/sys"))) {
    return Error(Code::kPermissionDenied, "a link of the image leads into procfs or sysfs");
  }
  return {};
}

// Where the mount goes.
Result<sys::Fd> find_target(Inside& in, const MountPlan& mount, TargetKind kind) {
  const bool plain = lies_in(mount.destination, "/proc") || mount.kind == MountKind::kProc ||
                     mount.kind == MountKind::kSysfs;
  sys::Fd target =
      FLUYT_TRY(plain                         ? open_plain_target(in.root, mount.destination, kind)
                : mount.options.target_itself ? open_target_itself(in.root, mount.destination, kind)
                                              : open_target(in.root, mount.destination, kind));
  FLUYT_TRY(check_not_system(mount, target));
  const struct stat there = FLUYT_TRY(sys::stat_of(target));
  const struct stat root = FLUYT_TRY(sys::stat_of(in.root));
  if (there.st_dev == root.st_dev && there.st_ino == root.st_ino) {
    return Error(Code::kPermissionDenied, "a link of the image leads to its root");
  }
  return target;
}

// A read-only /dev is still to be filled: it turns read-only in let_go().
bool filled_first(const Inside& in, const MountPlan& mount) {
  return mount.destination == "/dev" && in.plan.makes_dev &&
         (mount.options.set & MOUNT_ATTR_RDONLY) != 0;
}

Result<sys::Fd> make_fs(const MountPlan& mount, const std::string& mode = {}) {
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open(mount.type));
  if (!mount.source.empty()) FLUYT_TRY(context.set_string("source", mount.source));
  if (!mode.empty()) FLUYT_TRY(context.set_string("mode", mode));
  FLUYT_TRY(set_options(context, mount));
  return context.mount(mount.options.set);
}

// A tmpfs of which nobody said how it may be used is used as the directory that it covers.
std::string covered_mode(const Inside& in, const MountPlan& mount) {
  if (mount.type != "tmpfs") return {};
  for (const auto& [key, value] : mount.options.data) {
    if (key == "mode") return {};
  }
  auto there = sys::open_in(in.root, mount.destination, O_PATH | O_DIRECTORY);
  if (!there.ok()) return {};
  auto info = sys::stat_of(*there);
  if (!info.ok()) return {};
  std::array<char, 8> text{};
  snprintf(text.data(), text.size(), "%04o", info->st_mode & 07777U);
  return text.data();
}

// In a process of its own, into the PID namespace where others live, and may trace it: without a
// descriptor of ours but its socket, our root or our streams. What it opens is worth nothing to one
// who may not mount; a mount of procfs would be: it is whole, nothing in it is masked yet.
[[noreturn]] void open_proc_inside(sys::FdRef socket, sys::FdRef pid_namespace) {
  auto alone = sys::close_all_but({socket.raw(), pid_namespace.raw()});
  for (int stream = 0; stream < 3; ++stream) close(stream);
  if (alone.ok()) alone = sys::hide_in_empty_root();
  if (alone.ok()) alone = sys::join_namespaces(pid_namespace, CLONE_NEWPID);
  if (alone.ok()) alone = sys::close_all_but({socket.raw()});
  if (!alone.ok()) _exit(1);
  auto inner = sys::clone_process({});
  if (!inner.ok()) _exit(1);
  if (*inner) {
    (*inner)->wait(Deadline::never()).ignore("whether it sent something is what counts");
    _exit(0);
  }
  auto context = sys::FsContext::open("proc");
  auto sent =
      context.ok() ? sys::send_with_fds(socket, "p", {context->fd()}) : Result<>(context.error());
  _exit(sent.ok() ? 0 : 1);
}

Result<sys::FsContext> open_proc_of(sys::FdRef pid_namespace) {
  sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  auto child = FLUYT_TRY(sys::clone_process({}));
  if (!child) open_proc_inside(pair.second, pid_namespace);
  pair.second.reset();
  char byte = 0;
  auto received = sys::receive_with_fds(pair.first, &byte, 1);
  child->wait(Deadline::never()).ignore("it has done what it was made for");
  if (!received.ok()) return std::move(received).error();
  if (received->fds.size() != 1)
    return Error(Code::kInternal, "procfs of the joined PID namespace could not be opened");
  return sys::FsContext::adopt(std::move(received->fds[0]), "proc");
}

const sys::Fd* joined_pid_namespace(const Inside& in) {
  for (size_t i = 0; i < in.plan.namespaces.joins.size(); ++i) {
    if (in.plan.namespaces.joins[i].type == CLONE_NEWPID) return &in.host.joins[i];
  }
  return nullptr;
}

// procfs shows the PID namespace of whoever opens it. Where others live in the container's we stay
// out of it until the end: Linux 6.17 lets us name it; before, open_procs() was there.
Result<sys::Fd> make_proc(Inside& in, const MountPlan& mount) {
  const sys::Fd* joined = joined_pid_namespace(in);
  if (joined == nullptr) return make_fs(mount);
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("proc"));
  if (!in.procs.empty()) {
    context = std::move(in.procs.back());
    in.procs.pop_back();
  } else {
    FLUYT_TRY(context.set_fd("pidns", *joined));
  }
  FLUYT_TRY(context.set_string("source", "proc"));
  FLUYT_TRY(set_options(context, mount));
  return context.mount(mount.options.set);
}

// What later steps look for by the mount itself, since a path may lead elsewhere by then.
void remember(Inside& in, const MountPlan& mount, sys::Fd attached) {
  if (mount.type == "devpts" && mount.destination == "/dev/pts") {
    in.devpts = std::move(attached);
  } else if (mount.destination == "/proc") {
    in.proc = std::move(attached);
  } else if (mount.destination == "/sys") {
    in.sysfs = std::move(attached);
  }
}

// One that was made ahead, as a mount of now: mountinfo lists mounts in the order in which they
// were made, and shall show the specification's. Before Linux 6.15 what is not attached has no
// copies.
sys::Fd take_early(sys::Fd early) {
  auto copy = sys::clone_mount(early, sys::Depth::kTree);
  return copy.ok() ? std::move(*copy) : std::move(early);
}

Result<> attach_fs(Inside& in, size_t place, const MountPlan& mount) {
  sys::Fd fs =
      in.early.size() > place && in.early[place].valid() ? take_early(std::move(in.early[place]))
      : mount.kind == MountKind::kProc                   ? FLUYT_TRY(make_proc(in, mount))
                                       : FLUYT_TRY(make_fs(mount, covered_mode(in, mount)));
  if (!mount.label.empty()) FLUYT_TRY(sys::set_selinux_label(fs, mount.label));
  if (filled_first(in, mount)) {
    FLUYT_TRY(sys::set_mount_attributes(
        fs, {.set = 0, .clear = MOUNT_ATTR_RDONLY, .propagation = 0, .user_namespace = {}},
        sys::Depth::kOne));
  }
  const sys::Fd target = FLUYT_TRY(find_target(in, mount, TargetKind::kDirectory));
  if (mount.options.copy_up) FLUYT_TRY(copy_tree(target, fs));
  FLUYT_TRY(sys::attach_mount(fs, target));
  FLUYT_TRY(set_named_propagation(fs, mount.options));
  if (filled_first(in, mount)) {
    in.read_only_dev = std::move(fs);
  } else {
    remember(in, mount, std::move(fs));
  }
  return {};
}

// A link of the host made anew: what it leads to is in the container.
Result<> copy_link(Inside& in, const MountPlan& mount, const std::string& text) {
  const size_t slash = mount.destination.rfind('/');
  const std::string name = mount.destination.substr(slash + 1);
  const sys::Fd parent = FLUYT_TRY(open_target(
      in.root, slash == 0 ? "/" : mount.destination.substr(0, slash), TargetKind::kDirectory));
  FLUYT_TRY(check_not_system(mount, parent));
  if (symlinkat(text.c_str(), parent.raw(), name.c_str()) == 0) return {};
  if (errno != EEXIST) return Error::from_errno(errno, cat("symlinkat(", quote(name), ")"));
  auto there = sys::read_link(parent, name);
  if (there.ok() && *there == text) return {};
  return Error(Code::kAlreadyExists, "copy-symlink: something else is there already");
}

// What lies in our own root, and earlier mounts may have put there.
Result<sys::Fd> bind_shown(Inside& in, size_t place, const MountPlan& mount) {
  if (!mount.options.id_map || !in.plan.namespaces.in_user_namespace())
    return bind_in_root(in.plan, mount, in.root);
  // To map ids takes rights over the file system that a user namespace does not give.
  const sys::Fd source = FLUYT_TRY(sys::open_in(in.root, mount.source_in_root, O_PATH));
  FLUYT_TRY(
      send_packet(in.p.channel, Message::kWantBind, static_cast<int32_t>(place), {}, {source}));
  auto answer = FLUYT_TRY(receive_packet(in.p.channel, Deadline::never()));
  if (!answer) _exit(1);  // the maker tells why
  if (answer->kind != Message::kGo || answer->fds.size() != 1)
    return Error(Code::kInternal, "unexpected message of the maker");
  return std::move(answer->fds[0]);
}

Result<> attach_from_host(Inside& in, size_t place, const MountPlan& mount) {
  if (!in.host.links[place].empty()) return copy_link(in, mount, in.host.links[place]);
  if (!mount.source_in_root.empty())
    in.host.mounts[place] = FLUYT_TRY(bind_shown(in, place, mount));
  sys::Fd& source = in.host.mounts[place];
  const mode_t known = in.host.modes[place];
  const mode_t mode = known != 0 ? known : FLUYT_TRY(sys::stat_of(source)).st_mode;
  const TargetKind kind = S_ISDIR(mode) ? TargetKind::kDirectory : TargetKind::kFile;
  const sys::Fd target = FLUYT_TRY(find_target(in, mount, kind));
  FLUYT_TRY(sys::attach_mount(source, target));
  // A bind has had its own since it was made (finish_bind()).
  if (mount.kind == MountKind::kHostFs) FLUYT_TRY(set_named_propagation(source, mount.options));
  remember(in, mount, std::move(source));
  return {};
}

constexpr sys::MountAttributes attributes(uint64_t set, uint64_t clear) {
  return {.set = set, .clear = clear, .propagation = 0, .user_namespace = {}};
}

// v2: the container's directory. v1 and hybrid: a tmpfs with a directory for each hierarchy.
Result<> attach_cgroups(Inside& in, const MountPlan& mount) {
  const sys::Fd target = FLUYT_TRY(find_target(in, mount, TargetKind::kDirectory));
  const bool whole = in.host.cgroups.size() == 1 && in.host.cgroups[0].first.empty();
  if (whole) {
    const sys::Fd all = take_early(std::move(in.host.cgroups[0].second));
    FLUYT_TRY(sys::attach_mount(all, target));
    return set_named_propagation(all, mount.options);
  }
  const sys::Fd top = FLUYT_TRY(make_cgroup_top(mount.options));
  FLUYT_TRY(sys::attach_mount(top, target));
  for (const auto& [name, hierarchy] : in.host.cgroups)
    FLUYT_TRY(place_cgroup(top, name, hierarchy));
  FLUYT_TRY(finish_cgroup_top(top, mount.options));
  return set_named_propagation(top, mount.options);
}

Result<> change_mount(Inside& in, const MountPlan& mount) {
  const sys::Fd target = FLUYT_TRY(sys::open_in(in.root, mount.destination, O_PATH));
  FLUYT_TRY(check_not_system(mount, target));
  const MountOptions& options = mount.options;
  if ((options.tree_set | options.tree_clear) != 0) {
    FLUYT_TRY(sys::set_mount_attributes(target, attributes(options.tree_set, options.tree_clear),
                                        sys::Depth::kTree));
  }
  FLUYT_TRY(
      sys::set_mount_attributes(target, attributes(options.set, options.clear), sys::Depth::kOne));
  FLUYT_TRY(set_named_propagation(target, options));
  if (options.data.empty()) return {};
  sys::FsContext context = FLUYT_TRY(sys::FsContext::pick(target));
  FLUYT_TRY(set_options(context, mount));
  return context.reconfigure();
}

Result<> make_one(Inside& in, size_t place, const MountPlan& mount) {
  switch (mount.kind) {
    case MountKind::kBind:
    case MountKind::kHostFs:
      return attach_from_host(in, place, mount);
    case MountKind::kFs:
    case MountKind::kProc:
    case MountKind::kSysfs:
      return attach_fs(in, place, mount);
    case MountKind::kCgroup:
      return attach_cgroups(in, mount);
    case MountKind::kRemount:
      return change_mount(in, mount);
  }
  return {};
}

Result<> make_between(Inside& in, size_t first, size_t end) {
  for (size_t i = first; i < end; ++i) {
    const MountPlan& mount = in.plan.mounts[i];
    FLUYT_TRY_CONTEXT(make_one(in, i, mount),
                      cat("mounts[", mount.index, "]: ", quote(mount.destination, 1024)));
  }
  return {};
}

}  // namespace

Result<> open_procs(Inside& in) {
  const sys::Fd* joined = joined_pid_namespace(in);
  if (joined == nullptr) return {};
  sys::FsContext trial = FLUYT_TRY(sys::FsContext::open("proc"));
  if (trial.set_fd("pidns", *joined).ok()) return {};
  for (const MountPlan& mount : in.plan.mounts) {
    if (mount.kind == MountKind::kProc) in.procs.push_back(FLUYT_TRY(open_proc_of(*joined)));
  }
  return {};
}

Result<sys::Fd> own_procfs() {
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("proc"));
  sys::Fd proc = FLUYT_TRY(context.mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (FLUYT_TRY(sys::fs_magic(proc)) != sys::kProcMagic)
    return Error(Code::kInternal, "procfs is not a procfs");
  return proc;
}

Result<> early_proc(Inside& in) {
  in.early.resize(in.plan.mounts.size());
  for (size_t i = 0; i < in.plan.mounts.size(); ++i) {
    const MountPlan& mount = in.plan.mounts[i];
    if (mount.kind == MountKind::kProc) in.early[i] = FLUYT_TRY(make_proc(in, mount));
    if (mount.kind == MountKind::kSysfs) in.early[i] = FLUYT_TRY(make_fs(mount));
  }
  return {};
}

Result<> make_mounts(Inside& in) { return make_between(in, 0, in.plan.mounts_before_cgroups()); }

Result<> make_later_mounts(Inside& in) {
  return make_between(in, in.plan.mounts_before_cgroups(), in.plan.mounts.size());
}

}  // namespace fluyt::runtime
