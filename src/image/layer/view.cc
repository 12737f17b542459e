#include "image/layer/view.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::image {

Result<LayerView> LayerView::open(const std::vector<std::string>& lower_dirs) {
  if (lower_dirs.empty()) return Error(Code::kInvalidArgument, "a view of no layers");
  if (lower_dirs.size() > 1) {
    // What an image brings must not lead anywhere: neither of these is followed.
    return LayerView(FLUYT_TRY(
        sys::make_overlay({lower_dirs, "", ""}, {"redirect_dir=nofollow", "metacopy=off"})));
  }
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
