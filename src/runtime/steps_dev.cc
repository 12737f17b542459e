#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "runtime/first_process.h"
#include "runtime/target.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/pty.h"

namespace fluyt::runtime {

namespace {

constexpr std::array<std::pair<const char*, const char*>, 5> kLinks = {
    {{"fd", "/proc/self/fd"},
     {"stdin", "/proc/self/fd/0"},
     {"stdout", "/proc/self/fd/1"},
     {"stderr", "/proc/self/fd/2"},
     {"core", "/proc/kcore"}}};

dev_t number_of(const DevicePlan& device) {
  return makedev(static_cast<unsigned>(device.major), static_cast<unsigned>(device.minor));
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}
std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Something is there already, of the image or of a mount: only the very same device will do.
Result<> check_same(sys::FdRef parent, const std::string& name, const DevicePlan& device) {
  const auto info = FLUYT_TRY(sys::find_stat(parent, name));
  const bool same = info && (info->st_mode & S_IFMT) == (device.mode & S_IFMT) &&
                    (S_ISFIFO(device.mode) || info->st_rdev == number_of(device));
  if (!same) return Error(Code::kFailedPrecondition, "another file is there already");
  return {};
}

Result<> make_node(sys::FdRef parent, const std::string& name, const DevicePlan& device) {
  if (mknodat(parent.raw(), name.c_str(), device.mode, number_of(device)) != 0) {
    if (errno == EEXIST) return check_same(parent, name, device);
    return Error::from_errno(errno, cat("mknodat(", quote(name), ")"));
  }
  // The file is ours and new, in a directory that we hold: it cannot have been swapped.
  if ((device.uid != 0 || device.gid != 0) &&
      fchownat(parent.raw(), name.c_str(), device.uid, device.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return Error::from_errno(errno, cat("fchownat(", quote(name), ")"));
  }
  return {};
}

// A regular file to bind a device over: made new, or a file that is there, but never through a
// link.
Result<sys::Fd> place_for_bind(sys::FdRef parent, const std::string& name) {
  auto made = sys::open(parent, name, O_RDONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!made.ok() && made.error().errno_value() != EEXIST) return made;
  sys::Fd place =
      FLUYT_TRY(sys::open_in(parent, name, O_PATH | O_NOFOLLOW, 0, sys::Resolve::kBeneath));
  const struct stat info = FLUYT_TRY(sys::stat_of(place));
  if (S_ISLNK(info.st_mode) || S_ISDIR(info.st_mode)) {
    return Error(Code::kFailedPrecondition,
                 cat(quote(name), ": is a link or a directory: expected a file"));
  }
  return place;
}

Result<> make_device(Inside& in, size_t place, const DevicePlan& device) {
  const sys::Fd parent =
      FLUYT_TRY(open_target(in.root, parent_of(device.path), TargetKind::kDirectory));
  if (in.host.device_nodes.empty()) return make_node(parent, name_of(device.path), device);
  const sys::Fd target = FLUYT_TRY(place_for_bind(parent, name_of(device.path)));
  return sys::attach_mount(in.host.device_nodes[place], target);
}

Result<> make_link(sys::FdRef dev, const char* name, const char* text) {
  if (symlinkat(text, dev.raw(), name) != 0 && errno != EEXIST) {
    return Error::from_errno(errno, cat("symlinkat(", text, ", /dev/", name, ")"));
  }
  return {};
}

// The devpts to take a pty from: the one we mounted, or what lies at /dev/pts, verified by
// open_pty().
Result<sys::Pty> open_pty_inside(const Inside& in) {
  if (in.devpts.valid()) return sys::open_pty(in.devpts);
  const sys::Fd root = FLUYT_TRY(sys::open("/", O_PATH | O_DIRECTORY));
  const sys::Fd devpts = FLUYT_TRY(sys::open_in(root, "/dev/pts", O_PATH | O_DIRECTORY));
  return sys::open_pty(devpts);
}

// /dev/console is the pty, bound by its descriptor (CVE-2025-52565) onto a file that is new or no
// link (CVE-2026-88264).
Result<> bind_console(Inside& in) {
  const sys::Fd dev = FLUYT_TRY(sys::open_in(in.root, "/dev", O_PATH | O_DIRECTORY));
  const sys::Fd target = FLUYT_TRY_CONTEXT(place_for_bind(dev, "console"), "/dev/console");
  const sys::Fd bind = FLUYT_TRY(sys::clone_mount(in.console, sys::Depth::kOne));
  return sys::attach_mount(bind, target);
}

// Where the image brings /dev, what we make there must not end up elsewhere in it.
Result<> check_dev(const Inside& in) {
  for (const MountPlan& mount : in.plan.mounts) {
    if (mount.destination == "/dev") return {};
  }
  const auto dev = FLUYT_TRY(sys::find_stat(in.root, "dev"));
  if (dev && !S_ISDIR(dev->st_mode)) {
    return Error(Code::kFailedPrecondition,
                 "linux.devices: \"/dev\" of the root is no directory: expected one, or a mount");
  }
  return {};
}

}  // namespace

Result<> make_devices(Inside& in) {
  FLUYT_TRY(check_dev(in));
  for (size_t i = 0; i < in.plan.devices.size(); ++i) {
    FLUYT_TRY_CONTEXT(make_device(in, i, in.plan.devices[i]),
                      cat("linux.devices: ", quote(in.plan.devices[i].path, 1024)));
  }
  return {};
}

Result<> make_dev_links(Inside& in) {
  const sys::Fd dev = FLUYT_TRY(open_target(in.root, "/dev", TargetKind::kDirectory));
  for (const auto& [name, text] : kLinks) FLUYT_TRY(make_link(dev, name, text));
  // Whatever the image has here may be the host's multiplexer.
  const auto there = FLUYT_TRY(sys::find_stat(dev, "ptmx"));
  if (there && !S_ISDIR(there->st_mode)) FLUYT_TRY(sys::remove_file(dev, "ptmx"));
  return make_link(dev, "ptmx", "pts/ptmx");
}

Result<> open_console(Inside& in) {
  sys::Pty pty = FLUYT_TRY(open_pty_inside(in));
  in.console = std::move(pty.peer);
  if (in.plan.console_height != 0 || in.plan.console_width != 0) {
    FLUYT_TRY(sys::set_window_size(in.console, in.plan.console_height, in.plan.console_width));
  }
  FLUYT_TRY(sys::set_owner(in.console, in.plan.identity.uid));
  // An exec's is not the container's.
  if (!in.p.container_init.valid()) FLUYT_TRY(bind_console(in));
  return send_packet(in.p.channel, Message::kConsole, 0, {}, {pty.master});
}

}  // namespace fluyt::runtime
