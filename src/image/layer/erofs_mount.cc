#include "image/layer/erofs_mount.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/layer/erofs_image.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::image::erofs {

namespace {

constexpr uint64_t kErofsMagic = 0xE0F5E1E2;  // EROFS_SUPER_MAGIC_V1

// Programs run from images: noexec would reach what they map through overlayfs.
constexpr uint64_t kAttributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;

Result<sys::Fd> open_image(const std::string& file) {
  auto context = FLUYT_TRY(sys::FsContext::open("erofs"));
  FLUYT_TRY(context.set_string("source", file));
  return context.mount(kAttributes);
}

}  // namespace

Result<> mount_image(const std::string& file, const std::string& directory) {
  const sys::Fd mount = FLUYT_TRY(open_image(file));
  const sys::Fd target = FLUYT_TRY(sys::open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  sys::MountAttributes privately;
  privately.propagation = MS_PRIVATE;
  FLUYT_TRY(sys::set_mount_attributes(mount, privately, sys::Depth::kOne));
  return sys::attach_mount(mount, target);
}

Result<bool> is_mounted(const std::string& directory) {
  const sys::Fd at = FLUYT_TRY(sys::open(directory, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return FLUYT_TRY(sys::fs_magic(at)) == kErofsMagic;
}

Result<> unmount_image(const std::string& directory) {
  auto mounted = is_mounted(directory);
  if (!mounted.ok() && mounted.error().code() == Code::kNotFound) return {};
  if (!FLUYT_TRY(std::move(mounted))) return {};
  return sys::detach_mount_at(directory);
}

namespace {

// Makes an empty image, and has `use` do with its mount what is to be found out.
template <class Use>
Result<> with_empty_image(const std::string& folder, Use use) {
  const sys::Fd at = FLUYT_TRY(sys::open(folder, O_PATH | O_DIRECTORY));
  const sys::Fd file =
      FLUYT_TRY(sys::open(at, "probe.erofs", O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  auto tried = [&]() -> Result<> {
    ImageWriter writer(file, at, TreeLimits());
    FLUYT_TRY(writer.finish(FLUYT_TRY(digest_of("sha256", "probe"))));
    const sys::Fd mount = FLUYT_TRY(open_image(folder + "/probe.erofs"));
    return use(mount);
  }();
  FLUYT_TRY(sys::remove_file(at, "probe.erofs"));
  return tried;
}

}  // namespace

Result<> probe(const std::string& folder) {
  return with_empty_image(folder, [](sys::FdRef) { return Result<>(); });
}

Result<> probe_ids(const std::string& folder) {
  return with_empty_image(folder, [](sys::FdRef mount) -> Result<> {
    const std::vector<sys::IdRange> some = {{.inside = 0, .outside = 1U << 20U, .count = 1}};
    return sys::map_mount(mount, FLUYT_TRY(sys::make_user_namespace(some, some)));
  });
}

}  // namespace fluyt::image::erofs
