#include "image/layer/view.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::image {

namespace {

constexpr size_t kMaxKernelMessage = 512;

// The kernel says in words why a mount was refused, on the context's descriptor.
Error refused(sys::FdRef context, std::string_view call) {
  const int error = errno;
  std::array<char, kMaxKernelMessage> text;
  const ssize_t got = read(context.raw(), text.data(), text.size());
  Error out = Error::from_errno(error, call);
  if (got > 0) out.add_context(trim({text.data(), static_cast<size_t>(got)}));
  return out;
}

Result<> set(sys::FdRef context, const char* key, const char* value) {
  if (syscall(SYS_fsconfig, context.raw(), FSCONFIG_SET_STRING, key, value, 0) == 0) return {};
  return refused(context, cat("fsconfig(overlay, ", key, ", ", quote(value, 1024), ")"));
}

// "lowerdir+" takes one directory a call (Linux 6.7); before, one text has them all, ':' between.
Result<> set_lower_dirs(sys::FdRef context, const std::vector<std::string>& dirs) {
  auto first = set(context, "lowerdir+", dirs.front().c_str());
  if (first.ok()) {
    for (size_t i = 1; i < dirs.size(); ++i) FLUYT_TRY(set(context, "lowerdir+", dirs[i].c_str()));
    return {};
  }
  if (first.error().errno_value() != EINVAL) return first;
  std::string all;
  for (const std::string& dir : dirs) {
    if (!all.empty()) all += ':';
    for (const char c : dir) {
      if (c == ':' || c == '\\') all += '\\';
      all += c;
    }
  }
  return set(context, "lowerdir", all.c_str());
}

Result<sys::Fd> mount_overlay(const std::vector<std::string>& dirs) {
  const sys::Fd context(static_cast<int>(syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC)));
  if (!context.valid()) return Error::from_errno(errno, "fsopen(overlay)");
  FLUYT_TRY(set_lower_dirs(context, dirs));
  // What an image brings must not lead anywhere: neither of these is followed.
  FLUYT_TRY(set(context, "redirect_dir", "nofollow"));
  FLUYT_TRY(set(context, "metacopy", "off"));
  if (syscall(SYS_fsconfig, context.raw(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return refused(context, "fsconfig(overlay, CMD_CREATE)");
  }
  sys::Fd mounted(static_cast<int>(
      syscall(SYS_fsmount, context.raw(), FSMOUNT_CLOEXEC,
              MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)));
  if (!mounted.valid()) return refused(context, "fsmount(overlay)");
  return mounted;
}

}  // namespace

Result<LayerView> LayerView::open(const std::vector<std::string>& lower_dirs) {
  if (lower_dirs.empty()) return Error(Code::kInvalidArgument, "a view of no layers");
  if (lower_dirs.size() > 1) return LayerView(FLUYT_TRY(mount_overlay(lower_dirs)));
  return LayerView(FLUYT_TRY(sys::open(lower_dirs.front(), O_PATH | O_DIRECTORY)));
}

Result<std::optional<std::string>> LayerView::read_file(std::string_view path, size_t limit) const {
  // First without effect: opening a fifo would wait, opening a device could do anything.
  auto found = sys::open_in(root_, path, O_PATH);
  if (!found.ok()) {
    const int error = found.error().errno_value();
    if (error == ENOENT || error == ENOTDIR || error == ELOOP) return std::optional<std::string>();
    return std::move(found).error();
  }
  if (!S_ISREG(FLUYT_TRY(sys::stat_of(*found)).st_mode)) return std::optional<std::string>();
  const sys::Fd file = FLUYT_TRY(sys::open_in(root_, path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  if (!S_ISREG(FLUYT_TRY(sys::stat_of(file)).st_mode)) return std::optional<std::string>();
  return std::optional(FLUYT_TRY_CONTEXT(sys::read_all(file, limit), quote(path)));
}

}  // namespace fluyt::image
