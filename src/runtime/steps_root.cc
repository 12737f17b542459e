#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/escapes.h"
#include "base/strings.h"
#include "runtime/first_process.h"
#include "runtime/target.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::runtime {

namespace {

constexpr sys::MountAttributes kReadOnly{
    .set = MOUNT_ATTR_RDONLY, .clear = 0, .propagation = 0, .user_namespace = {}};

struct Place {
  sys::FdRef root;
  std::string path;
};

// What lies in procfs and sysfs is looked for in the mounts that we made of them: an image that two
// containers share can put a link in the place of a mount point after the mount, and would be left
// with a procfs that nothing covers.
Place place_of(const Inside& in, const std::string& path) {
  const auto below = [&](std::string_view folder) {
    return path == folder || path.starts_with(cat(folder, "/"));
  };
  if (in.proc.valid() && below("/proc")) return {in.proc, cat("./", path.substr(5))};
  if (in.sysfs.valid() && below("/sys")) return {in.sysfs, cat("./", path.substr(4))};
  return {in.root, path};
}

// A path that the image does not have needs no mask. The last component may be a link: what it
// leads to, in the root, is covered.
Result<std::optional<sys::Fd>> find_path(Inside& in, const std::string& path) {
  const Place place = place_of(in, path);
  auto found = sys::open_in(place.root, place.path, O_PATH);
  if (found.ok()) return std::optional(std::move(*found));
  const int why = found.error().errno_value();
  if (why == ENOENT || why == ENOTDIR || why == EACCES) return std::optional<sys::Fd>();
  return std::move(found).error();
}

// Kernels before 6.15 clone only what is attached: the first mask is the file system itself, and
// the others are clones of that.
Result<> mask_directory(Inside& in, sys::FdRef target) {
  if (in.mask_dir.valid()) {
    const sys::Fd copy = FLUYT_TRY(sys::clone_mount(in.mask_dir, sys::Depth::kOne));
    return sys::attach_mount(copy, target);
  }
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("tmpfs"));
  FLUYT_TRY(context.set_string("nr_inodes", "2"));
  FLUYT_TRY(context.set_string("mode", "0755"));
  FLUYT_TRY(context.set_flag("ro"));
  if (!in.plan.mount_label.empty()) {
    FLUYT_TRY(context.set_string("context", in.plan.mount_label));
  }
  in.mask_dir = FLUYT_TRY(
      context.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  return sys::attach_mount(in.mask_dir, target);
}

Result<> mask_file(Inside& in, sys::FdRef target) {
  if (in.null_attached) {
    const sys::Fd copy = FLUYT_TRY(sys::clone_mount(in.host.null_mount, sys::Depth::kOne));
    return sys::attach_mount(copy, target);
  }
  FLUYT_TRY(sys::attach_mount(in.host.null_mount, target));
  in.null_attached = true;
  return {};
}

}  // namespace

namespace {

// Without pivoting the old root stays, out of reach but there: and the kernel lets a user namespace
// mount a procfs without masks where it knows of another one.
Result<> drop_kernel_mounts() {
  const std::string text = FLUYT_TRY(sys::read_file("/proc/self/mountinfo", 16UL << 20U));
  const auto lines = split(text, '\n');
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    const size_t dash = line->find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto before = split_words(line->substr(0, dash));
    const auto after = split_words(line->substr(dash + 3));
    if (before.size() < 5 || after.empty() || before[3] != "/") continue;
    if (after[0] != "proc" && after[0] != "sysfs") continue;
    const std::string place = undo_octal_escapes(before[4]);
    // EINVAL: in a user namespace they are locked, and those that hide them too.
    auto detached = sys::detach_mount_at(place);
    if (detached.ok()) continue;
    const int why = detached.error().errno_value();
    if (why != EINVAL && why != ENOENT) return detached;
  }
  return {};
}

Result<bool> is_same_directory(sys::FdRef one, sys::FdRef other) {
  if (FLUYT_TRY(sys::mount_id(one)) != FLUYT_TRY(sys::mount_id(other))) return false;
  return FLUYT_TRY(sys::stat_of(one)).st_ino == FLUYT_TRY(sys::stat_of(other)).st_ino;
}

// All mounts of the namespace. A maker in a chroot(2) has its root somewhere in it: a mount above
// that is still a peer of the host's would pass on to the host what is attached there and what the
// pivot detaches.
Result<> make_all_private(Inside& in) {
  const sys::Fd root = FLUYT_TRY(sys::open("/", O_PATH | O_DIRECTORY));
  auto entered = sys::enter_root_of_mounts();
  // Without CAP_SYS_CHROOT we stay in the chroot, and nobody can join what is above from here.
  if (!entered.ok() && entered.error().errno_value() != EPERM) return entered;
  FLUYT_TRY(sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree));
  if (!entered.ok()) return {};
  const sys::Fd top = FLUYT_TRY(sys::open("/", O_PATH | O_DIRECTORY));
  in.in_chroot = !FLUYT_TRY(is_same_directory(root, top));
  if (!in.in_chroot) return {};
  // Until the container's root is found by its path.
  FLUYT_TRY(sys::change_directory(root));
  FLUYT_TRY(sys::enter_attached_root());
  // It may lie in a mount that another covers at the top, which was not among those.
  return sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree);
}

// What lies above would stay in the namespace behind the pivot, and be the root of everyone who
// joins the container.
Result<> leave_chroot(const Inside& in) {
  return in.in_chroot ? sys::enter_root_of_mounts() : Result<>();
}

}  // namespace

Result<> own_mounts(Inside& in) {
  // One that was made for us by somebody else goes on seeing what is mounted outside, and shows
  // nothing of ours there.
  if (in.plan.namespaces.mounts == NamespacePlan::Mounts::kJoined) {
    return sys::set_root_propagation(MS_SLAVE, sys::Depth::kTree);
  }
  if (!in.plan.no_pivot) return make_all_private(in);
  FLUYT_TRY(sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree));
  return drop_kernel_mounts();
}

Result<> attach_root(Inside& in) {
  if (!in.host.root.valid()) in.host.root = FLUYT_TRY(open_root(in.plan));
  FLUYT_TRY(leave_chroot(in));
  // Over "/" itself, so that no path of the host is walked. It is the top of the namespace already.
  FLUYT_TRY(sys::attach_over_root(in.host.root));
  in.over_root = true;
  in.root = std::move(in.host.root);
  return {};
}

Result<> attach_root_at_path(Inside& in) {
  const std::string path = in.plan.overlay ? "/" : in.plan.root_path;
  if (path == "/") return attach_root(in);
  const sys::Fd target = FLUYT_TRY(sys::open(path, O_PATH | O_DIRECTORY));
  FLUYT_TRY(sys::attach_mount(in.host.root, target));
  in.root = std::move(in.host.root);
  return {};
}

Result<> pivot(Inside& in) {
  if (!in.over_root) FLUYT_TRY(leave_chroot(in));
  FLUYT_TRY(sys::change_directory(in.root));
  // The caller's mount namespace keeps its root.
  if (in.plan.namespaces.mounts == NamespacePlan::Mounts::kCallers) {
    return sys::enter_attached_root();
  }
  if (!in.plan.no_pivot) return sys::pivot_to_working_directory();
  return in.over_root ? sys::enter_attached_root() : sys::move_to_working_directory();
}

Result<> read_only_root(Inside& in) {
  return sys::set_mount_attributes(in.root, kReadOnly, sys::Depth::kOne);
}

Result<> root_propagation(Inside& in) {
  return sys::set_mount_attributes(
      in.root,
      {.set = 0, .clear = 0, .propagation = in.plan.root_propagation, .user_namespace = {}},
      in.plan.root_propagation_tree ? sys::Depth::kTree : sys::Depth::kOne);
}

Result<> mask_paths(Inside& in) {
  for (const std::string& path : in.plan.masked_paths) {
    const auto target = FLUYT_TRY(find_path(in, path));
    if (!target) continue;
    const struct stat info = FLUYT_TRY(sys::stat_of(*target));
    FLUYT_TRY_CONTEXT(S_ISDIR(info.st_mode) ? mask_directory(in, *target) : mask_file(in, *target),
                      cat("linux.maskedPaths: ", quote(path)));
  }
  return {};
}

Result<> read_only_paths(Inside& in) {
  for (const std::string& path : in.plan.read_only_paths) {
    const auto target = FLUYT_TRY(find_path(in, path));
    if (!target) continue;
    auto cover = [&]() -> Result<> {
      const sys::Fd copy = FLUYT_TRY(sys::clone_mount(*target, sys::Depth::kTree));
      FLUYT_TRY(sys::set_mount_attributes(copy, kReadOnly, sys::Depth::kTree));
      return sys::attach_mount(copy, *target);
    };
    FLUYT_TRY_CONTEXT(cover(), cat("linux.readonlyPaths: ", quote(path)));
  }
  return {};
}

}  // namespace fluyt::runtime
