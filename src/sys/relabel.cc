#include "sys/relabel.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <set>
#include <string_view>
#include <utility>

#include "base/strings.h"
#include "sys/dir_stack.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace fluyt::sys {

namespace {

constexpr const char* kAttribute = "security.selinux";
constexpr size_t kMaxLabel = 4096;
constexpr int kMaxNested = 64;  // mounts below mounts

std::string path_of(FdRef fd) {
  auto path = read_link(kCwd, cat("/proc/self/fd/", fd.raw()));
  return path.ok() ? quote(*path, 1024) : cat("[", fd.raw(), "]");
}

class Relabelling {
 public:
  Relabelling(const std::string& label, const std::vector<std::string>& kept) : label_(label) {
    for (const std::string& place : kept) {
      struct stat info{};
      if (::stat(place.c_str(), &info) == 0) kept_.emplace(info.st_dev, info.st_ino);
    }
  }

  // `file` (O_PATH) and what is below it.
  Result<> tree(FdRef file, int nested) {
    if (!FLUYT_TRY(one(file))) return {};
    return below(file, nested);
  }

 private:
  // False: there is nothing below it, or nothing that could have a label.
  Result<bool> one(FdRef file) {
    const struct stat info = FLUYT_TRY(stat_of(file));
    if (kept_.contains({info.st_dev, info.st_ino})) {
      return Error(Code::kInvalidArgument,
                   cat(path_of(file), ": a place of the host whose label nothing may change"));
    }
    // A descriptor opened with O_PATH has no attributes; its link in procfs leads to the very file,
    // and where that is a link to the link itself.
    const std::string link = cat("/proc/self/fd/", file.raw());
    std::array<char, kMaxLabel> had{};
    const ssize_t size = ::getxattr(link.c_str(), kAttribute, had.data(), had.size());
    std::string_view now(had.data(), size > 0 ? static_cast<size_t>(size) : 0);
    if (now.ends_with('\0')) now.remove_suffix(1);
    const bool same = size > 0 && now == label_;
    if (!same && ::setxattr(link.c_str(), kAttribute, label_.c_str(), label_.size() + 1, 0) != 0) {
      if (errno == EOPNOTSUPP) return false;
      return Error::from_errno(
          errno, cat("setxattr(", path_of(file), ", ", kAttribute, ", ", quote(label_), ")"));
    }
    return S_ISDIR(info.st_mode);
  }

  Result<> below(FdRef directory, int nested) {
    if (nested > kMaxNested) {
      return Error(Code::kResourceExhausted,
                   cat(path_of(directory), ": more than ", kMaxNested, " mounts in each other"));
    }
    DirStack at = FLUYT_TRY(DirStack::open(directory, "."));
    while (true) {
      const dirent* entry = FLUYT_TRY(at.read());
      if (entry != nullptr) {
        FLUYT_TRY(take(at, entry->d_name, nested));
      } else if (at.depth() == 1) {
        return {};
      } else {
        FLUYT_TRY(leave(at));
      }
    }
  }

  static Result<> leave(DirStack& at) {
    const size_t depth = at.depth();
    auto left = at.leave();
    if (left.ok() || at.depth() + 1 == depth) return {};
    return std::move(left).error();
  }

  Result<> take(DirStack& at, const std::string& name, int nested) {
    auto file = open(at.dir(), name, O_PATH | O_NOFOLLOW);
    if (!file.ok() && file.error().errno_value() == ENOENT) return {};
    const Fd found = FLUYT_TRY(std::move(file));
    if (!FLUYT_TRY(one(found))) return {};
    auto entered = at.enter();
    if (entered.ok()) return {};
    switch (entered.error().errno_value()) {
      case EXDEV:
        return below(found, nested + 1);
      case ENOENT:  // it has gone, or something else is there by now
      case ENOTDIR:
      case ELOOP:
        return {};
      default:
        return entered;
    }
  }

  const std::string& label_;
  std::set<std::pair<dev_t, ino_t>> kept_;
};

}  // namespace

const std::vector<std::string>& never_relabelled() {
  static const std::vector<std::string> places = {
      "/",           "/bin",     "/boot", "/dev",     "/etc",     "/etc/passwd", "/etc/pki",
      "/etc/shadow", "/home",    "/lib",  "/lib64",   "/media",   "/opt",        "/proc",
      "/root",       "/run",     "/sbin", "/srv",     "/sys",     "/tmp",        "/usr",
      "/usr/bin",    "/usr/lib", "/var",  "/var/lib", "/var/log", "/var/tmp"};
  return places;
}

Result<> relabel(const std::string& path, const std::string& label,
                 const std::vector<std::string>& kept) {
  const Fd top = FLUYT_TRY(open(path, O_PATH));
  return Relabelling(label, kept).tree(top, 0);
}

}  // namespace fluyt::sys
