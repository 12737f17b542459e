#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/strings.h"
#include "engine/core.h"
#include "image/archive/tree.h"
#include "image/archive/untar.h"
#include "sys/file.h"
#include "sys/mount.h"

/// Files into and out of a container's root. Its content is hostile and may change under our eyes:
/// everything is found by openat2 in the root and used by descriptor.
namespace fluyt::engine {
namespace {

constexpr size_t kPieceBytes = 256UL << 10U;

/// A root while it is used.
struct Root {
  ContainerEntryPtr entry;
  ContainerPtr container;      // as it was when the root was opened
  std::shared_ptr<void> held;  // counts us among the root's users
  sys::Fd fd;
  sys::IdMaps ids;
  std::vector<std::string> volumes;  // where one that has exited has them mounted while it runs
};

Result<std::string> path_in_root(sys::FdRef fd) {
  return sys::read_link(sys::kCwd, cat("/proc/self/fd/", fd.raw()));
}

bool lies_in(const std::string& path, const std::string& folder) {
  return folder == "/" || path == folder || path.starts_with(cat(folder, "/"));
}

Result<std::vector<std::string>> volumes_of(const Container& container, sys::FdRef root) {
  std::vector<std::string> volumes;
  for (const Mount& mount : container.config.mounts) {
    const auto point = sys::open_in(root, mount.container_path, O_PATH);
    if (point.ok()) volumes.push_back(FLUYT_TRY(path_in_root(*point)));
  }
  return volumes;
}

Error volume_is_away(const Root& root, const std::string& volume) {
  return Error(Code::kFailedPrecondition,
               cat("container ", root.container->id, ": ", quote(volume, 1024),
                   " is a volume, which is there only while it runs"));
}

/// What lies below a mount point is nothing that the container has ever seen.
Result<> check_in_no_volume(const Root& root, const std::string& path) {
  for (const std::string& volume : root.volumes) {
    if (lies_in(path, volume)) return volume_is_away(root, volume);
  }
  return {};
}

Result<> check_has_no_volume(const Root& root, const std::string& path) {
  for (const std::string& volume : root.volumes) {
    if (lies_in(volume, path)) return volume_is_away(root, volume);
  }
  return {};
}

/// A guest kernel's first process has left for a root with nothing in it. Every other has at least
/// the folders that were mounted over.
Result<> check_holds_files(const Container& container, sys::FdRef root) {
  const sys::Fd folder = FLUYT_TRY(sys::open(root, ".", O_RDONLY | O_DIRECTORY));
  if (!FLUYT_TRY(sys::list_dir(folder)).empty()) return {};
  return Error(Code::kFailedPrecondition,
               cat("container ", container.id,
                   ": its files are a guest kernel's while it runs: stop it first"));
}

/// Whether its first process is the one on record, and the monitor has not reaped it.
Result<bool> lives(const Container& container, monitor::Client& client) {
  for (const auto& info : FLUYT_TRY(client.list())) {
    if (info.id == container.id && info.pid == container.pid)
      return info.state != monitor::ContainerState::kExited;
  }
  return false;
}

/// The root of a process that the monitor has not reaped: the number is still its own then.
Result<sys::Fd> root_of_process(const Container& container, monitor::Client& client) {
  sys::Fd process = FLUYT_TRY(sys::open(cat("/proc/", container.pid), O_PATH | O_DIRECTORY));
  if (FLUYT_TRY(lives(container, client))) return sys::open(process, "root", O_PATH | O_DIRECTORY);
  return Error(Code::kFailedPrecondition, cat("container ", container.id, " has just ended"));
}

/// Asked before success is answered. With a container's last process its mounts go, and with its
/// removal its files: what was found after that is not all, and what was written is nowhere.
Result<> check_is_still_there(Engine::Core& core, const Root& root) {
  const Container& container = *root.container;
  bool there = !root.entry->ending;
  if (there && container.state != ContainerState::kExited) {
    const auto client = FLUYT_TRY(core.find_client(*root.entry->sandbox));
    there = client && FLUYT_TRY(lives(container, *client));
  }
  if (there) return {};
  return Error(Code::kUnavailable,
               cat("container ", container.id, " ended or was removed meanwhile"));
}

Result<Root> open_root(Engine::Core& core, const std::string& id) {
  const ContainerEntryPtr entry = FLUYT_TRY(core.get_container(id));
  Root root;
  root.entry = entry;
  root.ids = id_maps(entry->sandbox->value()->config.namespaces.user_ids);
  // Before the state is looked at: the root of a process keeps its mount over the process's end.
  ++entry->root_users;
  root.held = std::shared_ptr<void>(nullptr, [entry](void*) { --entry->root_users; });
  {
    root.container = entry->value();
    const auto client = FLUYT_TRY(core.find_client(*entry->sandbox));
    if (root.container->state != ContainerState::kExited && client) {
      root.fd = FLUYT_TRY(root_of_process(*root.container, *client));
      FLUYT_TRY(check_holds_files(*root.container, root.fd));
      return root;
    }
  }
  const std::scoped_lock verbs(entry->verbs);
  root.container = entry->value();
  const Container& container = *root.container;
  if (container.state != ContainerState::kExited || entry->ending) {
    return Error(Code::kUnavailable, cat("container ", container.id, " is just being ",
                                         entry->ending ? "removed" : "started"));
  }
  const auto plan = FLUYT_TRY(
      core.parts.images->create_root(container.id, container.image_id, {.ids = root.ids}));
  root.fd = FLUYT_TRY_CONTEXT(sys::make_overlay(plan), "root");
  root.volumes = FLUYT_TRY(volumes_of(container, root.fd));
  return root;
}

Result<sys::Fd> find(const Root& root, const std::string& path, LastLink last_link) {
  // A slash behind a link's name asks for what it leads to, as everywhere.
  const bool keep = last_link == LastLink::kKeep && !path.ends_with('/');
  return sys::open_in(root.fd, path, O_PATH | (keep ? O_NOFOLLOW : 0));
}

FileStatus::Kind kind_of(mode_t mode) {
  if (S_ISREG(mode)) return FileStatus::Kind::kFile;
  if (S_ISDIR(mode)) return FileStatus::Kind::kDirectory;
  return S_ISLNK(mode) ? FileStatus::Kind::kLink : FileStatus::Kind::kOther;
}

/// For people, who do not know our descriptors.
Error about_path(const Error& error, const std::string& path) {
  switch (error.errno_value()) {
    case ENOENT:
      return Error(Code::kNotFound, cat("no such file or directory: ", quote(path, 1024)));
    case ENOTDIR:
      return Error(Code::kInvalidArgument, cat("not a directory: ", quote(path, 1024)));
    default:
      return error;
  }
}

}  // namespace

Result<FileStatus> Engine::stat_file(const std::string& id, const std::string& path,
                                     LastLink last_link) {
  const Root root = FLUYT_TRY_CONTEXT(open_root(*core_, id), "root");
  const auto found = find(root, path, last_link);
  FLUYT_TRY(check_is_still_there(*core_, root));
  if (!found.ok()) return about_path(found.error(), path);
  FLUYT_TRY(check_in_no_volume(root, FLUYT_TRY(path_in_root(*found))));
  const struct stat info = FLUYT_TRY(sys::stat_of(*found));
  FileStatus status;
  status.kind = kind_of(info.st_mode);
  if (status.kind == FileStatus::Kind::kFile) status.size = static_cast<uint64_t>(info.st_size);
  status.mode = info.st_mode & 07777U;
  status.mtime = info.st_mtim.tv_sec;
  if (status.kind == FileStatus::Kind::kLink) status.link = FLUYT_TRY(sys::read_link(*found, ""));
  return status;
}

Result<> Engine::read_files(const std::string& id, const ReadFiles& what, const ByteSink& sink) {
  const Root root = FLUYT_TRY_CONTEXT(open_root(*core_, id), "root");
  const auto found = find(root, what.path, what.last_link);
  if (!found.ok()) return about_path(found.error(), what.path);
  const std::string place = FLUYT_TRY(path_in_root(*found));
  FLUYT_TRY(check_in_no_volume(root, place));
  FLUYT_TRY(check_has_no_volume(root, place));
  const mode_t mode = FLUYT_TRY(sys::stat_of(*found)).st_mode;
  if (kind_of(mode) == FileStatus::Kind::kOther && !S_ISFIFO(mode)) {
    return Error(Code::kInvalidArgument,
                 cat("a device or a socket is not copied: ", quote(what.path, 1024)));
  }
  // Headers are small: they travel with what follows them.
  std::string piece;
  const auto send = [&]() -> Result<> {
    FLUYT_TRY(sink(piece));
    piece.clear();
    return {};
  };
  image::archive::TarWriter tar([&](std::string_view bytes) -> Result<> {
    piece.append(bytes);
    return piece.size() >= kPieceBytes ? send() : Result<>();
  });
  const image::archive::TreeOptions options{.ids = root.ids};
  if (!what.name.empty()) {
    FLUYT_TRY(image::archive::write_tree(*found, what.name, tar, options));
  } else {
    const auto directory = sys::open_in(root.fd, what.path, O_RDONLY | O_DIRECTORY);
    if (!directory.ok()) return about_path(directory.error(), what.path);
    FLUYT_TRY(image::archive::write_contents(*directory, "", tar, options));
  }
  FLUYT_TRY(check_is_still_there(*core_, root));
  FLUYT_TRY(tar.finish());
  return send();
}

Result<> Engine::write_files(const std::string& id, const WriteFiles& where,
                             const std::function<Result<std::string>()>& next) {
  using Owner = image::archive::UntarOptions::Owner;
  Root root = FLUYT_TRY_CONTEXT(open_root(*core_, id), "root");
  const Container& container = *root.container;
  if (container.state == ContainerState::kExited && container.config.security.readonly_rootfs) {
    return Error(Code::kFailedPrecondition,
                 cat("container ", container.id, ": its root is read-only"));
  }
  const bool kept = where.owner == WriteFiles::Owner::kKept;
  auto untar = image::archive::Untar::create(
      std::move(root.fd),
      {.folder = where.folder,
       .owner = kept ? Owner::kKept : Owner::kRoot,
       .ids = root.ids,
       .may_make = [&root](sys::FdRef parent, const std::string& name) -> Result<> {
         if (root.volumes.empty()) return {};
         const std::string folder = FLUYT_TRY(path_in_root(parent));
         return check_in_no_volume(root, cat(folder == "/" ? "" : folder, "/", name));
       }});
  if (!untar.ok()) return about_path(untar.error(), where.folder);
  while (true) {
    const std::string piece = FLUYT_TRY(next());
    if (piece.empty()) break;
    FLUYT_TRY((*untar)->push(piece));
  }
  FLUYT_TRY((*untar)->finish());
  return check_is_still_there(*core_, root);
}

}  // namespace fluyt::engine
