#include "engine/checkpoint_archive.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/id.h"
#include "base/strings.h"
#include "base/time.h"
#include "image/archive/diff.h"
#include "image/archive/tar_writer.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

using image::archive::TarWriter;

constexpr size_t kPiece = 256UL << 10U;

TarWriter::Sink into(sys::FdRef file) {
  return [file](std::string_view bytes) { return sys::write_all(file, bytes); };
}

Result<> copy_file(sys::FdRef from, const std::string& name, TarWriter& tar,
                   const std::function<Result<>()>& stop) {
  const struct stat info = FLUYT_TRY(sys::stat_of(from));
  uint64_t left = static_cast<uint64_t>(info.st_size);
  FLUYT_TRY(tar.begin_file(name, left));
  std::vector<char> piece(static_cast<size_t>(std::min<uint64_t>(kPiece, left)));
  while (left > 0) {
    FLUYT_TRY(stop());
    const size_t want = static_cast<size_t>(std::min<uint64_t>(piece.size(), left));
    const size_t got = FLUYT_TRY(sys::read_some(from, {piece.data(), want}));
    if (got == 0) return Error(Code::kInternal, cat(quote(name), " became shorter"));
    FLUYT_TRY(tar.data({piece.data(), got}));
    left -= got;
  }
  return tar.end_file();
}

/// Files and folders of ours: nothing else is in there.
Result<> copy_tree(sys::FdRef folder, const std::string& prefix, TarWriter& tar,
                   const std::function<Result<>()>& stop) {
  for (const std::string& name : FLUYT_TRY(sys::list_dir(folder))) {
    const auto info = FLUYT_TRY(sys::find_stat(folder, name));
    if (!info) continue;
    if (S_ISDIR(info->st_mode)) {
      const sys::Fd below = FLUYT_TRY(sys::open(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      FLUYT_TRY(tar.folder(cat(prefix, name, "/")));
      FLUYT_TRY(copy_tree(below, cat(prefix, name, "/"), tar, stop));
    } else if (S_ISREG(info->st_mode)) {
      const sys::Fd file = FLUYT_TRY(sys::open(folder, name, O_RDONLY | O_NOFOLLOW));
      FLUYT_TRY(copy_file(file, cat(prefix, name), tar, stop));
    }
  }
  return {};
}

}  // namespace

Result<> check_location(const std::string& location) {
  const auto wrong = [&](std::string_view expected) {
    return Error(Code::kInvalidArgument,
                 cat("location: ", quote(location, 1024), ": expected ", expected));
  };
  if (!location.starts_with('/') || location.ends_with('/') ||
      location.find('\0') != std::string::npos) {
    return wrong("an absolute path of a file");
  }
  for (const std::string_view part : split(location, '/')) {
    if (part == "..") return wrong("a path without \"..\"");
  }
  const std::string folder = location.substr(0, std::max<size_t>(location.rfind('/'), 1));
  struct stat info{};
  if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return wrong(cat("a path in a folder that exists, and ", quote(folder, 1024), " does not"));
  }
  if (::lstat(location.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return wrong("no file there, or a regular one to be replaced");
  }
  return {};
}

std::string config_dump(const Container& container, const std::string& name,
                        int64_t checkpointed_at) {
  const std::string image = container.config.user_specified_image.empty()
                                ? container.config.image
                                : container.config.user_specified_image;
  const nlohmann::json config = {{"id", container.id},
                                 {"name", name},
                                 {"rootfsImage", image},
                                 {"rootfsImageName", image},
                                 {"rootfsImageRef", container.image_digest},
                                 {"runtime", "runf"},
                                 {"createdTime", format_rfc3339_nano(container.created_at)},
                                 {"checkpointedTime", format_rfc3339_nano(checkpointed_at)},
                                 {"restoredTime", "0001-01-01T00:00:00Z"},
                                 {"restored", false}};
  return config.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<> write_rootfs_diff(const std::string& upper, const std::string& path,
                           const std::function<Result<>()>& stop) {
  const sys::Fd from = FLUYT_TRY(sys::open(upper, O_RDONLY | O_DIRECTORY));
  const sys::Fd to = FLUYT_TRY(sys::open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
  TarWriter tar(into(to));
  FLUYT_TRY(image::archive::write_diff(from, tar, stop));
  return tar.finish();
}

Result<> write_archive(const std::string& folder, const std::string& location,
                       const std::function<Result<>()>& stop) {
  const sys::Fd from = FLUYT_TRY(sys::open(folder, O_RDONLY | O_DIRECTORY));
  const std::string unfinished = cat(location, ".", make_id().substr(0, 12), ".unfinished");
  sys::Fd to = FLUYT_TRY_CONTEXT(
      sys::open(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600), "location");
  const auto write = [&]() -> Result<> {
    TarWriter tar(into(to));
    FLUYT_TRY(copy_tree(from, "", tar, stop));
    FLUYT_TRY(tar.finish());
    if (::fsync(to.raw()) != 0) return Error::from_errno(errno, "fsync(location)");
    if (::rename(unfinished.c_str(), location.c_str()) != 0) {
      return Error::from_errno(errno, cat("rename(", quote(location, 1024), ")"));
    }
    return {};
  };
  auto written = write();
  if (!written.ok()) {
    sys::remove_file(sys::kCwd, unfinished).ignore("the first error is the one to tell");
  }
  return written;
}

}  // namespace fluyt::engine
