#include "runtime/target.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include <cerrno>
#include <deque>
#include <string>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::runtime {

namespace {

constexpr int kMaxLinks = 40;
constexpr mode_t kMode = 0755;

// Where the walk stands: `path` has no links in it, so that its parent is its text without the end.
struct Walk {
  sys::FdRef root;
  sys::Fd at;
  std::string path;
  std::deque<std::string> rest;
  int links = 0;

  Result<> go_to(std::string where) {
    at = FLUYT_TRY(sys::open_in(root, where.empty() ? "." : std::string_view(where), O_PATH));
    path = std::move(where);
    return {};
  }
  void put_in_front(std::string_view text) {
    const auto pieces = split(text, '/');
    for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
      if (!piece->empty() && *piece != ".") rest.emplace_front(*piece);
    }
  }
};

Result<> follow(Walk& walk, const sys::Fd& link) {
  if (++walk.links > kMaxLinks) return Error::from_errno(ELOOP, "too many links");
  const std::string text = FLUYT_TRY(sys::read_link(link, ""));
  walk.put_in_front(text);
  if (text.starts_with('/')) return walk.go_to("");
  return {};
}

Result<> make(const Walk& walk, const std::string& name, bool as_file) {
  const int result = as_file ? mknodat(walk.at.raw(), name.c_str(), S_IFREG | kMode, 0)
                             : mkdirat(walk.at.raw(), name.c_str(), kMode);
  if (result != 0 && errno != EEXIST) {
    return Error::from_errno(
        errno, cat(as_file ? "mknodat(" : "mkdirat(", quote(walk.path), ", ", quote(name), ")"));
  }
  return {};
}

Result<> step(Walk& walk, TargetKind kind) {
  const std::string name = std::move(walk.rest.front());
  walk.rest.pop_front();
  if (name == "..")
    return walk.go_to(
        walk.path.substr(0, walk.path.rfind('/') == std::string::npos ? 0 : walk.path.rfind('/')));
  auto found = sys::open_in(walk.at, name, O_PATH | O_NOFOLLOW, 0, sys::Resolve::kBeneath);
  if (!found.ok() && found.error().errno_value() == ENOENT) {
    FLUYT_TRY(make(walk, name, walk.rest.empty() && kind == TargetKind::kFile));
    found = sys::open_in(walk.at, name, O_PATH | O_NOFOLLOW, 0, sys::Resolve::kBeneath);
  }
  sys::Fd fd = FLUYT_TRY(std::move(found));
  const struct stat info = FLUYT_TRY(sys::stat_of(fd));
  if (S_ISLNK(info.st_mode)) return follow(walk, fd);
  walk.path += cat("/", name);
  walk.at = std::move(fd);
  return {};
}

}  // namespace

Result<sys::Fd> open_target(sys::FdRef root, std::string_view path, TargetKind kind) {
  auto there = sys::open_in(root, path, O_PATH);
  if (there.ok() || there.error().errno_value() != ENOENT) return there;
  Walk walk{.root = root, .at = {}, .path = {}, .rest = {}, .links = 0};
  FLUYT_TRY(walk.go_to(""));
  walk.put_in_front(path);
  while (!walk.rest.empty()) FLUYT_TRY(step(walk, kind));
  return std::move(walk.at);
}

Result<sys::Fd> open_target_itself(sys::FdRef root, const std::string& path, TargetKind kind) {
  const size_t slash = path.rfind('/');
  const std::string name = path.substr(slash + 1);
  const sys::Fd parent = FLUYT_TRY(
      open_target(root, slash == 0 ? "/" : path.substr(0, slash), TargetKind::kDirectory));
  auto open_it = [&] {
    return sys::open_in(parent, name, O_PATH | O_NOFOLLOW, 0, sys::Resolve::kBeneath);
  };
  auto there = open_it();
  if (there.ok() || there.error().errno_value() != ENOENT) return there;
  const int made = kind == TargetKind::kFile
                       ? mknodat(parent.raw(), name.c_str(), S_IFREG | kMode, 0)
                       : mkdirat(parent.raw(), name.c_str(), kMode);
  if (made != 0 && errno != EEXIST)
    return Error::from_errno(errno, cat("mkdirat(", quote(name), ")"));
  return open_it();
}

Result<sys::Fd> open_plain_target(sys::FdRef root, std::string_view path, TargetKind kind) {
  const int flags = O_PATH | (kind == TargetKind::kDirectory ? O_DIRECTORY : 0);
  auto open_it = [&] {
    return sys::open_in(root, path, flags, 0, sys::Resolve::kInRoot, RESOLVE_NO_SYMLINKS);
  };
  auto there = open_it();
  if (!there.ok() && there.error().errno_value() == ENOENT && kind == TargetKind::kDirectory) {
    // Made only where it is missing: a link, dangling or not, was refused with ELOOP above.
    FLUYT_TRY(sys::make_dirs_in(root, path, kMode));
    there = open_it();
  }
  if (!there.ok())
    return std::move(there).error().add_context(
        "must be mounted on ordinary directory of the root, no link");
  return there;
}

}  // namespace fluyt::runtime
