#include "sys/file.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/id.h"
#include "base/strings.h"
#include "base/time.h"
#include "sys/dir_stack.h"

namespace fluyt::sys {

namespace {

std::string shown(FdRef dir, std::string_view path) {
  if (dir.raw() == kCwd.raw()) return quote(path, 1024);
  return cat("[", dir.raw(), "], ", quote(path, 1024));
}

template <class Call>
auto retry_eintr(Call call) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

// A directory is tried as an empty one first: one that is met again has been emptied meanwhile.
Result<> remove_children(DirStack at) {
  while (true) {
    const dirent* entry = FLUYT_TRY(at.read());
    int refused = 0;
    if (entry == nullptr) {
      if (at.depth() == 1) return {};
      entry = FLUYT_TRY(at.leave());
      if (entry == nullptr) {
        at.rewind();  // a position means little in a directory that was removed from
        continue;
      }
    } else {
      if (unlinkat(at.dir().raw(), entry->d_name, 0) == 0 || errno == ENOENT) continue;
      refused = errno;
      if (refused != EISDIR && refused != EPERM)
        return Error::from_errno(refused, cat("unlinkat(", shown(at.dir(), entry->d_name), ")"));
    }
    if (unlinkat(at.dir().raw(), entry->d_name, AT_REMOVEDIR) == 0 || errno == ENOENT) continue;
    const int error = errno == ENOTDIR ? refused : errno;
    const bool is_new = refused != 0;
    if (!is_new || (error != ENOTEMPTY && error != EEXIST))
      return Error::from_errno(error, cat("rmdir(", shown(at.dir(), entry->d_name), ")"));
    FLUYT_TRY(at.enter());
  }
}

}  // namespace

void Fd::reset() {
  if (raw_ >= 0) ::close(std::exchange(raw_, -1));
}

Result<Fd> open(FdRef dir, const std::string& path, int flags, mode_t mode) {
  const int fd =
      retry_eintr([&] { return ::openat(dir.raw(), path.c_str(), flags | O_CLOEXEC, mode); });
  if (fd < 0) return Error::from_errno(errno, cat("openat(", shown(dir, path), ")"));
  return Fd(fd);
}

Result<Fd> open_in(FdRef root, std::string_view path, int flags, mode_t mode, Resolve how,
                   uint64_t extra_resolve) {
  if (path.find('\0') != std::string_view::npos) {
    return Error(Code::kInvalidArgument, cat("path ", quote(path), ": contains a NUL"));
  }
  const std::string text = path.empty() ? "." : std::string(path);
  open_how request{};
  request.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  request.mode = mode;
  request.resolve = RESOLVE_NO_MAGICLINKS | extra_resolve |
                    (how == Resolve::kInRoot ? RESOLVE_IN_ROOT : RESOLVE_BENEATH);
  // EAGAIN says that a rename went on meanwhile; under hostile load a try usually succeeds within
  // 0.4 ms, so 2 ms tells an attack from bad luck.
  const int64_t give_up = now_boot_ns() + 2'000'000;
  while (true) {
    const long fd = syscall(SYS_openat2, root.raw(), text.c_str(), &request, sizeof request);
    if (fd >= 0) return Fd(static_cast<int>(fd));
    if (errno == EINTR || (errno == EAGAIN && now_boot_ns() < give_up)) continue;
    return Error::from_errno(errno, cat("openat2(", shown(root, path), ")"));
  }
}

Result<Fd> make_dirs_in(FdRef root, std::string_view path, mode_t mode) {
  // The common case first: one call when all of it exists.
  auto whole = open_in(root, path, O_PATH | O_DIRECTORY);
  if (whole.ok() || whole.error().errno_value() != ENOENT) return whole;
  std::string so_far;
  Fd current = FLUYT_TRY(open_in(root, ".", O_PATH | O_DIRECTORY));
  for (const std::string_view piece : split(path, '/')) {
    if (piece.empty() || piece == ".") continue;
    so_far += cat("/", piece);
    auto next = open_in(root, so_far, O_PATH | O_DIRECTORY);
    if (!next.ok() && next.error().errno_value() == ENOENT && piece != "..") {
      // `current` is the directory that so_far's parent resolved to, within the root.
      if (mkdirat(current.raw(), std::string(piece).c_str(), mode) != 0 && errno != EEXIST) {
        return Error::from_errno(errno, cat("mkdirat(", shown(current, piece), ")"));
      }
      next = open_in(current, piece, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0, Resolve::kBeneath);
    }
    current = FLUYT_TRY(std::move(next));
  }
  return current;
}

Result<> make_dirs(const std::string& path, mode_t mode) {
  for (size_t at = 1; at <= path.size(); ++at) {
    if (at != path.size() && path[at] != '/') continue;
    const std::string prefix = path.substr(0, at);
    if (mkdir(prefix.c_str(), mode) != 0 && errno != EEXIST) {
      return Error::from_errno(errno, cat("mkdir(", quote(prefix), ")"));
    }
  }
  struct stat info{};
  if (stat(path.c_str(), &info) != 0)
    return Error::from_errno(errno, cat("stat(", quote(path), ")"));
  if (!S_ISDIR(info.st_mode)) return Error::from_errno(ENOTDIR, cat("mkdir(", quote(path), ")"));
  return {};
}

Result<size_t> read_some(FdRef fd, std::span<char> buffer) {
  const ssize_t got = retry_eintr([&] { return ::read(fd.raw(), buffer.data(), buffer.size()); });
  if (got < 0) return Error::from_errno(errno, cat("read([", fd.raw(), "])"));
  return static_cast<size_t>(got);
}

Result<std::string> read_all(FdRef fd, size_t limit) {
  std::string out;
  size_t step = 4096;
  while (true) {
    const size_t used = out.size();
    out.resize(used + step);
    const size_t got = FLUYT_TRY(read_some(fd, {out.data() + used, step}));
    out.resize(used + got);
    if (got == 0) return out;
    if (out.size() > limit) {
      return Error(Code::kResourceExhausted, cat("file is larger than ", limit, " bytes"));
    }
    step = std::min<size_t>(step * 2, 1U << 20U);
  }
}

Result<std::string> read_file(FdRef dir, const std::string& path, size_t limit) {
  const Fd fd = FLUYT_TRY(open(dir, path, O_RDONLY));
  return FLUYT_TRY_CONTEXT(read_all(fd, limit), quote(path, 1024));
}

Result<std::string> read_file(const std::string& path, size_t limit) {
  return read_file(kCwd, path, limit);
}

Result<> write_all(FdRef fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t put = retry_eintr([&] { return ::write(fd.raw(), data.data(), data.size()); });
    if (put < 0)
      return Error::from_errno(errno, cat("write([", fd.raw(), "], ", data.size(), " bytes)"));
    data.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

Result<> write_file(FdRef dir, const std::string& path, std::string_view data) {
  const Fd fd = FLUYT_TRY(open(dir, path, O_WRONLY));
  const ssize_t put = retry_eintr([&] { return ::write(fd.raw(), data.data(), data.size()); });
  if (put < 0) {
    return Error::from_errno(errno, cat("write(", shown(dir, path), ", ", quote(trim(data)), ")"));
  }
  return {};
}

Result<> write_file_atomic(FdRef dir, const std::string& path, std::string_view data, mode_t mode,
                           Durability durability) {
  const std::string temporary = cat(path, ".", make_id().substr(0, 12), ".tmp");
  auto write = [&]() -> Result<> {
    const Fd fd = FLUYT_TRY(open(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
    FLUYT_TRY(write_all(fd, data));
    if (durability == Durability::kFsync && fsync(fd.raw()) != 0) {
      return Error::from_errno(errno, cat("fsync(", shown(dir, temporary), ")"));
    }
    if (renameat(dir.raw(), temporary.c_str(), dir.raw(), path.c_str()) != 0) {
      return Error::from_errno(errno, cat("renameat(", shown(dir, path), ")"));
    }
    return {};
  };
  auto result = write();
  if (!result.ok()) {
    unlinkat(dir.raw(), temporary.c_str(), 0);
    return result;
  }
  if (durability == Durability::kFsync) {
    const size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "."
                               : slash == 0               ? "/"
                                                          : path.substr(0, slash);
    const Fd fd = FLUYT_TRY(open(dir, folder, O_RDONLY | O_DIRECTORY));
    if (fsync(fd.raw()) != 0)
      return Error::from_errno(errno, cat("fsync(", shown(dir, folder), ")"));
  }
  return {};
}

Result<struct stat> stat_of(FdRef fd) {
  struct stat info{};
  if (fstat(fd.raw(), &info) != 0) return Error::from_errno(errno, cat("fstat([", fd.raw(), "])"));
  return info;
}

Result<std::optional<struct stat>> find_stat(FdRef dir, const std::string& path) {
  struct stat info{};
  if (fstatat(dir.raw(), path.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return std::optional(info);
  if (errno == ENOENT || errno == ENOTDIR) return std::optional<struct stat>();
  return Error::from_errno(errno, cat("fstatat(", shown(dir, path), ")"));
}

bool exists(const std::string& path) {
  return faccessat(AT_FDCWD, path.c_str(), F_OK, AT_EACCESS) == 0;
}

Result<> remove_file(FdRef dir, const std::string& path) {
  if (unlinkat(dir.raw(), path.c_str(), 0) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, cat("unlinkat(", shown(dir, path), ")"));
  }
  return {};
}

Result<> remove_tree(FdRef dir, const std::string& path) {
  const std::optional<struct stat> info = FLUYT_TRY(find_stat(dir, path));
  if (!info) return {};
  if (!S_ISDIR(info->st_mode)) return remove_file(dir, path);
  // The way to the folder may cross mounts; from its parent on nothing may.
  const size_t end = path.find_last_not_of('/');
  const std::string trimmed = path.substr(0, end == std::string::npos ? 0 : end + 1);
  const size_t slash = trimmed.rfind('/');
  const std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") {
    return Error(Code::kInvalidArgument,
                 cat("remove ", quote(path, 1024), ": expected a folder's name"));
  }
  const Fd parent = FLUYT_TRY(open(
      dir, slash == std::string::npos ? "." : trimmed.substr(0, slash + 1), O_PATH | O_DIRECTORY));
  FLUYT_TRY(remove_children(FLUYT_TRY(DirStack::open(parent, name))));
  if (unlinkat(parent.raw(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, cat("rmdir(", shown(dir, path), ")"));
  }
  return {};
}

namespace {

template <class Wanted>
Result<std::vector<std::string>> list_entries(FdRef dir, Wanted wanted) {
  DirStack at = FLUYT_TRY(DirStack::open(dir, "."));
  std::vector<std::string> names;
  while (const dirent* entry = FLUYT_TRY(at.read())) {
    if (wanted(*entry)) names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

Result<std::vector<std::string>> list_dir(FdRef dir) {
  return list_entries(dir, [](const dirent&) { return true; });
}
Result<std::vector<std::string>> list_subdirs(FdRef dir) {
  return list_entries(dir, [&](const dirent& entry) {
    if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
    struct stat info{};
    return fstatat(dir.raw(), entry.d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(info.st_mode);
  });
}

Result<std::vector<std::string>> list_dir(const std::string& path) {
  const Fd fd = FLUYT_TRY(open(path, O_PATH | O_DIRECTORY));
  return list_dir(fd);
}

Result<std::string> transact(const std::string& path, std::string_view request, size_t limit) {
  const Fd file = FLUYT_TRY(open(path, O_RDWR));
  const ssize_t wrote = ::write(file.raw(), request.data(), request.size());
  if (wrote < 0) return Error::from_errno(errno, cat("write(", quote(path), ")"));
  if (static_cast<size_t>(wrote) != request.size())
    return Error(Code::kInternal, cat("write(", quote(path), "): only ", wrote, " bytes"));
  std::string out(limit, '\0');
  const ssize_t got = ::pread(file.raw(), out.data(), out.size(), 0);
  if (got < 0) return Error::from_errno(errno, cat("pread(", quote(path), ")"));
  out.resize(static_cast<size_t>(got));
  return out;
}

Result<std::string> read_link(FdRef dir, const std::string& path) {
  std::string out(4096, '\0');
  const ssize_t got = readlinkat(dir.raw(), path.c_str(), out.data(), out.size());
  if (got < 0) return Error::from_errno(errno, cat("readlinkat(", shown(dir, path), ")"));
  out.resize(static_cast<size_t>(got));
  return out;
}

Result<TempDir> TempDir::create(const std::string& parent) {
  std::string path = parent + "/fluyt-XXXXXX";
  if (mkdtemp(path.data()) == nullptr)
    return Error::from_errno(errno, cat("mkdtemp(", quote(path), ")"));
  return TempDir(std::move(path));
}

TempDir& TempDir::operator=(TempDir&& other) noexcept {
  if (this != &other) {
    if (!path_.empty())
      remove_tree(path_).ignore("a temporary folder; its parent is swept at boot");
    path_ = std::exchange(other.path_, {});
  }
  return *this;
}

TempDir::~TempDir() {
  if (!path_.empty()) remove_tree(path_).ignore("a temporary folder; its parent is swept at boot");
}

Result<Pipe> make_pipe(int flags) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC | flags) != 0) return Error::from_errno(errno, "pipe2()");
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

Result<> set_nonblocking(FdRef fd, bool on) {
  const int flags = fcntl(fd.raw(), F_GETFL);
  if (flags < 0 || fcntl(fd.raw(), F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) != 0) {
    return Error::from_errno(errno, cat("fcntl([", fd.raw(), "], F_SETFL)"));
  }
  return {};
}

Result<Fd> duplicate(FdRef fd) {
  const int copy = fcntl(fd.raw(), F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Error::from_errno(errno, cat("fcntl([", fd.raw(), "], F_DUPFD_CLOEXEC)"));
  return Fd(copy);
}

Result<Fd> sealed_memfd(const std::string& name, std::string_view data) {
  Fd fd(memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return Error::from_errno(errno, cat("memfd_create(", quote(name), ")"));
  FLUYT_TRY(write_all(fd, data));
  if (lseek(fd.raw(), 0, SEEK_SET) != 0) return Error::from_errno(errno, "lseek()");
  if (fcntl(fd.raw(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    return Error::from_errno(errno, "fcntl(F_ADD_SEALS)");
  }
  return fd;
}

}  // namespace fluyt::sys
