#include <fcntl.h>
#include <sched.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "base/strings.h"
#include "host/probe.h"
#include "image/layer/erofs_mount.h"
#include "image/rootfs/roots.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::host {

namespace {

// --- Mounts, in a mount namespace of a child's own ----------------------------------------------

Result<> own_mounts(uint64_t more_namespaces = 0) {
  FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWNS | more_namespaces));
  return sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree);
}

Result<std::string> mount_api() {
  FLUYT_TRY(own_mounts());
  auto context = FLUYT_TRY(sys::FsContext::open("tmpfs"));
  const sys::Fd made = FLUYT_TRY(context.mount(0));
  const sys::Fd target = FLUYT_TRY(sys::open("/proc", O_PATH | O_DIRECTORY));
  FLUYT_TRY(sys::attach_mount(made, target));
  const sys::Fd copy = FLUYT_TRY(sys::clone_mount("/", sys::Depth::kOne));
  FLUYT_TRY(sys::set_mount_attributes(copy, {.set = MOUNT_ATTR_RDONLY}, sys::Depth::kOne));
  if ((FLUYT_TRY(sys::mount_flags(copy)) & MOUNT_ATTR_RDONLY) == 0) {
    return Error(Code::kInternal, "mount_setattr(MOUNT_ATTR_RDONLY): the mount can be written to");
  }
  return std::string("fsopen, open_tree, move_mount, mount_setattr");
}

// What a container has mounted, in namespaces like its own.
Result<std::string> kernel_file_systems() {
  FLUYT_TRY(own_mounts(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP));
  // The first process in the new PID namespace, which alone can have its procfs.
  return in_child([]() -> Result<std::string> {
    constexpr std::array<const char*, 5> kTypes{"proc", "sysfs", "tmpfs", "devpts", "mqueue"};
    std::vector<std::string> names;
    for (const char* type : kTypes) {
      auto context = FLUYT_TRY(sys::FsContext::open(type));
      FLUYT_TRY(context.mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
      names.emplace_back(type);
    }
    return join(names, ", ");
  });
}

// The optional fields of the last line for "/" say whether what is mounted later travels.
Result<std::string> shared_root() {
  constexpr size_t kMaxMountinfoBytes = 16UL << 20U;
  const std::string text = FLUYT_TRY(sys::read_file("/proc/self/mountinfo", kMaxMountinfoBytes));
  bool shared = false;
  for (const std::string_view line : split(text, '\n')) {
    const auto words = split_words(line.substr(0, line.find(" - ")));
    if (words.size() < 6 || words[4] != "/") continue;
    shared = std::ranges::any_of(words, [](auto word) { return word.starts_with("shared:"); });
  }
  if (!shared) return Error(Code::kFailedPrecondition, "/ is a private mount");
  return std::string("/ is shared");
}

// --- The disk below `root` ----------------------------------------------------------------------

std::string nearest_folder(std::string path) {
  while (path.size() > 1 && !sys::exists(path)) path.resize(std::max<size_t>(path.rfind('/'), 1));
  return path;
}

std::string gigabytes(uint64_t bytes) {
  const uint64_t tenths = bytes / (1UL << 30U) >= 10 ? 0 : bytes * 10 / (1UL << 30U) % 10;
  const std::string whole = cat(bytes / (1UL << 30U));
  return bytes / (1UL << 30U) >= 10 ? cat(whole, " GiB") : cat(whole, ".", tenths, " GiB");
}

void examine_room(const std::string& folder, Findings& findings) {
  constexpr uint64_t kLeastBytes = 4UL << 30U;
  constexpr uint64_t kLeastPercent = 15;  // below which a kubelet collects images
  constexpr uint64_t kWhole = 100;
  Findings::About about{.name = "disk",
                        .need = Need::kPods,
                        .loses = "a kubelet evicts pods and deletes images on a full disk",
                        .remedy = "free some, or set root in fluytd.toml to another disk"};
  struct statvfs info{};
  if (::statvfs(folder.c_str(), &info) != 0) {
    return findings.add(std::move(about),
                        Error::from_errno(errno, cat("statvfs(", quote(folder), ")")));
  }
  const uint64_t free_bytes = info.f_bavail * info.f_frsize;
  const uint64_t bytes = info.f_blocks * info.f_frsize;
  std::string found = cat(gigabytes(free_bytes), " of ", gigabytes(bytes), " free at ", folder);
  bool low = free_bytes < kLeastBytes || free_bytes * kWhole < bytes * kLeastPercent;
  // File systems that make inodes as they go say 0.
  if (info.f_files != 0 && info.f_favail * kWhole < info.f_files * kLeastPercent) {
    low = true;
    found += cat(", ", info.f_favail, " of ", info.f_files, " inodes");
  }
  findings.add(std::move(about), low ? Has::kPartly : Has::kYes, std::move(found));
}

// What unpacking writes and overlayfs keeps on it.
Result<std::string> attributes(const std::string& folder) {
  const sys::Fd at = FLUYT_TRY(sys::open(folder, O_RDONLY | O_DIRECTORY));
  for (const char* name : {"trusted.overlay.opaque", "user.fluyt"}) {
    if (::fsetxattr(at.raw(), name, "y", 1, 0) != 0)
      return Error::from_errno(errno, cat("fsetxattr(", quote(folder), ", ", name, ")"));
  }
  if ((FLUYT_TRY(sys::mount_flags(at)) & MOUNT_ATTR_NOEXEC) != 0)
    return Error(Code::kFailedPrecondition, "it is mounted noexec");
  return cat(sys::fs_name(at), ", with trusted.* and user.* attributes");
}

// A container's root as it will be made, with something written to it.
Result<std::string> overlay(const std::string& folder) {
  const auto roots = FLUYT_TRY(image::Roots::open(folder + "/roots"));
  FLUYT_TRY(sys::make_dirs(folder + "/layer/below", 0755));
  const sys::OverlayMount plan = FLUYT_TRY(roots.create("check", {folder + "/layer"}));
  const sys::Fd root = FLUYT_TRY(sys::make_overlay(plan));
  FLUYT_TRY(sys::open(root, "below/written", O_WRONLY | O_CREAT | O_EXCL, 0644));
  FLUYT_TRY(sys::open(plan.upper_dir + "/below/written", O_PATH));
  return cat("mounted on ", sys::fs_name(FLUYT_TRY(sys::open(folder, O_RDONLY | O_DIRECTORY))));
}

Result<std::string> mapped_overlay(const std::string& folder) {
  FLUYT_TRY(FLUYT_TRY(image::Roots::open(folder + "/mapped")).probe_ids());
  return std::string("overlayfs over idmapped layers");
}

Result<std::string> erofs(const std::string& folder) {
  FLUYT_TRY(image::erofs::probe(folder));
  const bool mapped = image::erofs::probe_ids(folder).ok();
  return cat("mounted from a file", mapped ? ", idmapped too" : "; not idmapped");
}

Need need_if(bool needed) { return needed ? Need::kPods : Need::kSome; }

void examine_disk(const Options& options, Findings& findings) {
  const std::string parent = nearest_folder(options.root);
  const Findings::About about{
      .name = "file system of root",
      .need = Need::kPods,
      .loses = "no image can be unpacked",
      .remedy = "set root in fluytd.toml to a folder on ext4, xfs or btrfs, mounted exec"};
  const auto folder = sys::TempDir::create(parent);
  const auto with_folder = [&](auto use) -> Probe {
    return [&folder, use]() -> Result<std::string> {
      if (!folder.ok()) return folder.error();
      return use(folder->path());
    };
  };
  examine_room(parent, findings);
  findings.try_out(about, with_folder(attributes));
  findings.try_out({.name = "overlayfs",
                    .need = need_if(!options.copied_roots),
                    .loses = "containers have no roots but with image.root_driver = \"copy\"",
                    .remedy = "modprobe overlay; root on a file system that it can write to"},
                   with_folder(overlay));
  findings.try_out(
      {.name = "idmapped layers",
       .loses = "pods with hostUsers: false are refused",
       .remedy = "Linux 5.19, and root on a file system that maps ids (ext4, xfs, btrfs)"},
      with_folder(mapped_overlay));
  findings.try_out({.name = "erofs",
                    .need = need_if(options.erofs_layers),
                    .loses = "image.layer_form = \"erofs\" does not work",
                    .remedy = "modprobe erofs; images in files take Linux 6.12"},
                   with_folder(erofs));
}

}  // namespace

void examine_files(const Options& options, Findings findings) {
  findings.try_out({.name = "mount calls",
                    .need = Need::kPods,
                    .loses = "no root, volume or procfs can be mounted",
                    .remedy = "Linux 5.15, and no filter against these calls"},
                   mount_api);
  findings.try_out({.name = "kernel file systems",
                    .need = Need::kPods,
                    .loses = "containers lack what the specification mounts",
                    .remedy = "a kernel with it; inside a container: an unmasked /proc and /sys"},
                   kernel_file_systems);
  findings.add({.name = "shared mounts",
                .loses = "volumes with mountPropagation do not see later mounts",
                .remedy = "mount --make-rshared /"},
               shared_root());
  examine_disk(options, findings);
}

}  // namespace fluyt::host
