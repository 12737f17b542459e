#include "guest/sandbox/mounter.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/escapes.h"
#include "base/strings.h"
#include "guest/fs/devices.h"
#include "guest/fs/memfs.h"
#include "guest/platform/host/io.h"
#include "guest/proc/cgroupfs.h"
#include "guest/proc/sysfs.h"

namespace fluyt::guest {
namespace {

/// /dev: what every program expects.
Errno fill_dev(Tree& tree, const WalkFrom& from, const std::string& dev) {
  struct Device {
    const char* path;
    uint32_t major, minor;
  };
  constexpr Device kDevices[] = {{"/null", 1, 3},   {"/zero", 1, 5},    {"/full", 1, 7},
                                 {"/random", 1, 8}, {"/urandom", 1, 9}, {"/tty", 5, 0},
                                 {"/console", 5, 1}};
  for (const Device& device : kDevices) {
    GUEST_TRY(tree.make(from, dev + device.path, S_IFCHR | 0666,
                        make_device(device.major, device.minor)));
  }
  constexpr const char* kLinks[][2] = {{"/fd", "/proc/self/fd"},
                                       {"/stdin", "/proc/self/fd/0"},
                                       {"/stdout", "/proc/self/fd/1"},
                                       {"/stderr", "/proc/self/fd/2"},
                                       {"/ptmx", "pts/ptmx"}};
  for (const auto& link : kLinks) GUEST_TRY(tree.symlink(from, dev + link[0], link[1]));
  return kOk;
}

bool lies_below(std::string_view path, std::string_view folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

const char* type_name(SandboxMount::Kind kind) {
  switch (kind) {
    case SandboxMount::Kind::kProc:
      return "proc";
    case SandboxMount::Kind::kSysfs:
      return "sysfs";
    case SandboxMount::Kind::kDevPts:
      return "devpts";
    case SandboxMount::Kind::kCgroup:
      return "cgroup2";
    case SandboxMount::Kind::kMqueue:
      return "mqueue";
    case SandboxMount::Kind::kDev:
    case SandboxMount::Kind::kTmpfs:
      break;
  }
  return "tmpfs";
}

}  // namespace

std::vector<HostMount> read_host_mounts(std::string_view mountinfo) {
  std::vector<HostMount> out;
  for (const std::string_view line : split(mountinfo, '\n')) {
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto before = split_words(line.substr(0, dash));
    const auto after = split_words(line.substr(dash + 3));
    if (before.size() < 6 || after.empty()) continue;
    out.push_back({undo_octal_escapes(before[4]), std::string(after[0]), std::string(before[5])});
  }
  return out;
}

InodePtr make_guest_sysfs(Kernel& kernel, const HostFacts& facts,
                          const std::weak_ptr<const Container>& whose_memory) {
  const auto whose = whose_memory.lock();
  return make_sysfs({.interfaces = kernel.network->interfaces,
                     .processors = whose ? whose->processors() : host::processors(),
                     .huge_pages = facts.huge_pages,
                     .memory = [whose_memory] {
                       const auto container = whose_memory.lock();
                       return container ? container->memory.read() : host::MemoryFigures();
                     }});
}

Mounter::Mounter(Kernel& kernel, const ContainerPtr& container, DentryPtr root, PidSpacePtr pids,
                 const SandboxRequest& request, const HostFacts& facts)
    : tree_(*kernel.tree),
      kernel_(kernel),
      container_(container),
      pids_(std::move(pids)),
      request_(request),
      facts_(facts),
      from_{root, root, {}},
      stand_in_(make_memfs(0755)) {}

InodePtr Mounter::make_root(const SandboxMount& mount) {
  switch (mount.kind) {
    case SandboxMount::Kind::kProc:
      return make_procfs({kernel_, pids_, container_}, facts_);
    case SandboxMount::Kind::kSysfs:
      return make_guest_sysfs(kernel_, facts_, container_);
    case SandboxMount::Kind::kDevPts:
      terminals_ = make_devpts({}, kernel_);
      return terminals_->root();
    case SandboxMount::Kind::kCgroup:
      return make_cgroupfs(kernel_, container_, pids_);
    case SandboxMount::Kind::kMqueue: {
      const auto container = container_.lock();
      SysV& ipc = container && container->ipc ? *container->ipc : kernel_.sysv;
      return ipc.posix_queues->root();
    }
    case SandboxMount::Kind::kDev:
    case SandboxMount::Kind::kTmpfs:
      break;
  }
  MemfsRequest wanted{.root_mode = mount.mode, .within = kernel_.shared_memory};
  const auto container = container_.lock();
  if (container) wanted.descriptors = container->descriptors;
  const uint64_t half = container ? container->memory.read().total / 2 : 0;
  wanted.limit_to(half);
  read_memfs_options(mount.data, half, wanted).ignore("the host has mounted it with the same");
  return make_memfs(wanted);
}

bool Mounter::is_guests(const std::string& path) const {
  return std::any_of(request_.mounts.begin(), request_.mounts.end(),
                     [&](const SandboxMount& mount) { return mount.path == path; });
}

bool Mounter::is_hidden(const std::string& path) const {
  return std::any_of(request_.mounts.begin(), request_.mounts.end(),
                     [&](const SandboxMount& mount) { return lies_below(path, mount.path); });
}

Errno Mounter::mount_all(const std::vector<HostMount>& of_host) {
  std::vector<std::pair<const HostMount*, InodePtr>> later;
  for (const HostMount& mount : of_host) {
    where_ = mount.path;
    if (mount.path == "/") {
      tree_.describe_root(from_.root, mount.type, mount.options);
      continue;
    }
    if (is_guests(mount.path)) continue;
    const DentryPtr at = GUEST_TRY(tree_.find(from_, mount.path, LastLink::kKeep));
    if (is_hidden(mount.path)) {
      later.emplace_back(&mount, at->inode);
    } else {
      GUEST_TRY(tree_.mount(at, at->inode, mount.type, mount.options));
    }
  }
  for (const SandboxMount& mount : request_.mounts) {
    where_ = mount.path;
    const DentryPtr at = GUEST_TRY(tree_.mount_point(from_, mount.path, stand_in_));
    GUEST_TRY(tree_.mount(at, make_root(mount), type_name(mount.kind), "rw,nosuid,relatime"));
    if (mount.kind == SandboxMount::Kind::kDevPts) {
      const DentryPtr root = GUEST_TRY(tree_.find(from_, mount.path, LastLink::kFollow));
      terminals_->mounted_at(root);
    }
    if (mount.kind == SandboxMount::Kind::kDev) GUEST_TRY(fill_dev(tree_, from_, mount.path));
  }
  for (const auto& [mount, inode] : later) {
    where_ = mount->path;
    if (!inode->is_dir()) {
      const Errno made = tree_.make(from_, mount->path, S_IFREG | 0644, 0);
      if (!made.ok() && made.value() != EEXIST) return made;
    }
    const DentryPtr at = GUEST_TRY(tree_.mount_point(from_, mount->path, stand_in_));
    GUEST_TRY(tree_.mount(at, inode, mount->type, mount->options));
  }
  for (const SandboxMount& mount : request_.mounts) {
    if (!mount.read_only) continue;
    where_ = mount.path;
    const DentryPtr at = GUEST_TRY(tree_.find(from_, mount.path, LastLink::kFollow));
    at->read_only = true;
    at->options = "ro,nosuid,relatime";
  }
  for (const std::string& path : request_.read_only_paths) GUEST_TRY(cover(path, false));
  for (const std::string& path : request_.masked_paths) GUEST_TRY(cover(path, true));
  return kOk;
}

Errno Mounter::set_console(std::span<const FilePtr> streams, bool has_terminal) {
  if (!has_terminal) return kOk;
  const auto terminal = std::find_if(streams.begin(), streams.end(), [](const FilePtr& file) {
    return !file->describe().starts_with("pipe:");
  });
  if (terminal == streams.end()) return kOk;
  where_ = "/dev/console";
  const ErrnoOr<DentryPtr> found = tree_.find(from_, where_, LastLink::kFollow);
  if (!found.ok()) return found.error().value() == ENOENT ? kOk : found.error();
  if (S_ISCHR(found.value()->inode->type()))
    found.value()->inode->identity().attachment = *terminal;
  return kOk;
}

/// A path of the guest's own made read-only, or empty as well.
Errno Mounter::cover(const std::string& path, bool empty) {
  where_ = path;
  const ErrnoOr<DentryPtr> found = tree_.find(from_, path, LastLink::kFollow);
  if (!found.ok()) return found.error().value() == ENOENT ? kOk : found.error();
  InodePtr inode = found.value()->inode;
  if (empty && inode->is_dir()) {
    inode = make_memfs(0755);
  } else if (empty) {
    InodePtr folder = make_memfs(0755);
    inode = GUEST_TRY(folder->make("null", {S_IFCHR | 0666, make_device(1, 3), 0, 0}));
  }
  return tree_.mount(found.value(), std::move(inode), "tmpfs", "ro,relatime");
}

}  // namespace fluyt::guest
