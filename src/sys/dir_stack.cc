#include "sys/dir_stack.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <unordered_set>

#include "base/strings.h"

namespace fluyt::sys {

// A bind mount of our own file system has the same st_dev, so only the kernel's RESOLVE_NO_XDEV
// tells it from a plain folder.
Result<DirStack::Stream> DirStack::open_stream(FdRef parent, const char* name, int flags) {
  open_how request{};
  request.flags = static_cast<uint64_t>(O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | flags);
  request.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  const long raw = syscall(SYS_openat2, parent.raw(), name, &request, sizeof request);
  if (raw < 0) {
    const int error = errno;
    return Error::from_errno(error, cat("openat2([", parent.raw(), "], ", quote(name), ")"));
  }
  return into_stream(Fd(static_cast<int>(raw)));
}

Result<DirStack::Stream> DirStack::into_stream(Fd fd) {
  Stream stream(fdopendir(fd.raw()));
  if (!stream) return Error::from_errno(errno, "fdopendir()");
  fd.release();  // closedir closes it
  return stream;
}

Result<DirStack> DirStack::open(FdRef parent, const std::string& name, int flags) {
  DirStack stack(flags);
  Stream first = FLUYT_TRY(open_stream(parent, name.c_str(), flags));
  stack.open_.push_back({std::move(first)});
  return stack;
}

Result<const dirent*> DirStack::read() {
  Open& at = open_.back();
  do {
    errno = 0;
    at.entry = readdir(at.stream.get());
    if (at.entry == nullptr && errno != 0) return Error::from_errno(errno, "readdir()");
  } while (at.entry != nullptr &&
           (strcmp(at.entry->d_name, ".") == 0 || strcmp(at.entry->d_name, "..") == 0));
  return at.entry;
}

Result<> DirStack::enter() { return enter(std::string(open_.back().entry->d_name)); }

Result<> DirStack::enter(const std::string& name) {
  Stream next = FLUYT_TRY(open_stream(dir(), name.c_str(), flags_));
  if (open_.size() == kMaxOpen) {
    const Stream& outermost = open_[kMaxKept].stream;  // of those that are not kept
    closed_.push_back({FLUYT_TRY(identify(outermost)), telldir(outermost.get())});
    open_.erase(open_.begin() + kMaxKept);
  }
  open_.push_back({std::move(next)});
  return {};
}

Result<DirStack::Identity> DirStack::identify(const Stream& stream) {
  const int fd = dirfd(stream.get());
  struct stat info{};
  if (fstat(fd, &info) != 0) return Error::from_errno(errno, "fstat()");
  Handle handle{};
  auto* const raw = reinterpret_cast<file_handle*>(handle.data());
  raw->handle_bytes = sizeof handle - sizeof(file_handle);
  int mount = 0;
  const bool has_one = name_to_handle_at(fd, "", raw, &mount, AT_EMPTY_PATH) == 0;
  return Identity{info.st_ino, has_one ? handle : Handle{}};
}

// The very directory, or none where it was removed: a handle is never given to another.
Result<DirStack::Stream> DirStack::open_by_handle(Handle handle) const {
  if (handle == Handle{}) return Error(Code::kNotFound, "the directory has no handle");
  const int fd = open_by_handle_at(dirfd(open_.front().stream.get()),
                                   reinterpret_cast<file_handle*>(handle.data()),
                                   O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags_);
  if (fd < 0) return Error::from_errno(errno, "open_by_handle_at()");
  return into_stream(Fd(fd));
}

Result<const dirent*> DirStack::leave() {
  const Stream left = std::move(open_.back().stream);
  open_.pop_back();
  if (open_.size() > kMaxKept || closed_.empty()) return open_.back().entry;
  const auto go_on = [this](Stream stream) {
    seekdir(stream.get(), closed_.back().position);
    open_.push_back({std::move(stream)});
    closed_.pop_back();
  };
  // Whoever moves the directory away meanwhile could lead us out of the tree by its "..".
  if (auto up = open_stream(FdRef(dirfd(left.get())), "..", flags_); up.ok()) {
    const auto found = identify(*up);
    if (found.ok() && *found == closed_.back().identity) {
      go_on(std::move(*up));
      return nullptr;
    }
  }
  for (; !closed_.empty(); closed_.pop_back()) {
    auto found = open_by_handle(closed_.back().identity.handle);
    if (!found.ok()) continue;  // it was removed, and what was in it with it
    go_on(std::move(*found));
    break;
  }
  return Error(Code::kAborted, "a directory was moved or removed while it was read");
}

namespace {

class Sizer {
 public:
  Sizer(dev_t device, uint64_t max_inodes) : device_(device), max_inodes_(max_inodes) {}

  void count(const struct stat& info) {
    constexpr uint64_t kStatBlock = 512;
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1 && !linked_.insert(info.st_ino).second) return;
    ++size_.inodes;
    size_.bytes += static_cast<uint64_t>(info.st_blocks) * kStatBlock;
  }

  // False: it ended before the end.
  bool walk(DirStack& at) {
    while (true) {
      const auto entry = at.read();
      if (!entry.ok()) return false;
      if (*entry == nullptr) {
        if (at.depth() == 1) return true;
        const size_t depth = at.depth();
        // Something above was not read to its end, and is lost: not what is beside it.
        if (!at.leave().ok() && at.depth() + 1 < depth) cut_short();
        continue;
      }
      if (size_.inodes >= max_inodes_) return false;
      struct stat info{};
      if (fstatat(at.dir().raw(), (*entry)->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (info.st_dev != device_) continue;
      count(info);
      if (S_ISDIR(info.st_mode)) descend(at);
    }
  }

  void cut_short() { size_.complete = false; }
  TreeSize size() const { return size_; }

 private:
  void descend(DirStack& at) {
    const auto entered = at.enter();
    if (entered.ok()) return;
    const int error = entered.error().errno_value();
    const bool gone = error == ENOENT || error == ENOTDIR || error == ELOOP || error == EXDEV;
    if (!gone) cut_short();
  }

  dev_t device_;
  uint64_t max_inodes_;
  TreeSize size_;
  std::unordered_set<ino_t> linked_;
};

}  // namespace

Result<TreeSize> tree_size(FdRef parent, const std::string& name, uint64_t max_inodes) {
  struct stat info{};
  if (fstatat(parent.raw(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return Error::from_errno(errno, cat("fstatat(", quote(name), ")"));
  Sizer sizer(info.st_dev, max_inodes);
  sizer.count(info);
  if (!S_ISDIR(info.st_mode)) return sizer.size();
  auto stack = DirStack::open(parent, name, O_NOATIME);
  if (!stack.ok() || !sizer.walk(*stack)) sizer.cut_short();
  return sizer.size();
}

}  // namespace fluyt::sys
