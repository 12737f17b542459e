#include "runtime/checkpoint/folders.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::runtime::checkpoint {

std::string Folders::log(const std::string& name) const {
  return cat(work.valid() ? work_path : images_path, "/", name);
}

Result<Folders> open_folders(const Settings& settings, FolderUse use) {
  Folders out;
  out.images_path = settings.image_path;
  out.work_path = settings.work_path;
  if (use == FolderUse::kMake)
    FLUYT_TRY_CONTEXT(sys::make_dirs(settings.image_path, 0700), "option --image-path");
  out.images = FLUYT_TRY_CONTEXT(sys::open(settings.image_path, O_RDONLY | O_DIRECTORY),
                                 "option --image-path");
  if (settings.work_path.empty()) return out;
  FLUYT_TRY_CONTEXT(sys::make_dirs(settings.work_path, 0700), "option --work-path");
  out.work = FLUYT_TRY_CONTEXT(sys::open(settings.work_path, O_RDONLY | O_DIRECTORY),
                               "option --work-path");
  return out;
}

CriuOptions options_of(const Settings& settings, const Folders& folders) {
  CriuOptions out;
  out.images_fd = folders.images.raw();
  out.work_fd = folders.work.raw();
  out.ext_unix_sk = settings.ext_unix_sk;
  out.tcp_established = settings.tcp_established;
  out.tcp_skip_in_flight = settings.tcp_skip_in_flight;
  out.shell_job = settings.shell_job;
  out.file_locks = settings.file_locks;
  out.link_remap = settings.link_remap;
  out.auto_dedup = settings.auto_dedup;
  out.lazy_pages = settings.lazy_pages;
  out.empty_network = settings.empty_network;
  out.cgroup_mode = settings.cgroup_mode;
  out.page_server_address = settings.page_server_address;
  out.page_server_port = settings.page_server_port;
  out.lsm_profile = settings.lsm_profile;
  out.lsm_mount_context = settings.lsm_mount_context;
  return out;
}

Result<Descriptors> describe_descriptors() {
  Descriptors out;
  for (int number = 0; number < 3; ++number) {
    auto link = sys::read_link(sys::kCwd, cat("/proc/self/fd/", number));
    std::string name;
    if (link.ok() && link->starts_with("pipe:[")) name = *link;
    if (link.ok() && link->starts_with('/')) {
      const struct stat info = FLUYT_TRY(sys::stat_of(sys::FdRef(number)));
      const uint64_t mount = FLUYT_TRY(sys::mountinfo_id(sys::FdRef(number)));
      char text[64];
      snprintf(text, sizeof text, "file[%llx:%llx]", static_cast<unsigned long long>(mount),
               static_cast<unsigned long long>(info.st_ino));
      name = text;
    }
    out.push_back(std::move(name));
  }
  return out;
}

}  // namespace fluyt::runtime::checkpoint
