#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/strings.h"
#include "sys/clone.h"
#include "sys/mount.h"

namespace fluyt::sys {

namespace {

constexpr size_t kMaxOptions = 4095;  // mount(2) takes a page

// What the child tells, in memory that both see.
struct Told {
  const char* call = nullptr;  // that failed
  int error = 0;
  const char* about = nullptr;  // the directory that it failed for, if it was one
  int fd = -1;                  // of the mount, in the table that both have
};

// Everything the child needs, made before it is there: it may not allocate, since another thread
// may have held the allocator's lock.
struct Request {
  std::vector<const char*> dirs;  // lower ones, then upper and work if there are
  size_t lower_count = 0;
  const char* target = nullptr;
  const char* options_behind = nullptr;
  unsigned long flags = 0;
  int user_namespace = -1;         // of the ids that the lower directories' files show under
  const char* sub_path = nullptr;  // shown in place of the whole
  std::vector<int> fds;
  std::array<char, kMaxOptions + 1> options{};
};

class Writer {
 public:
  explicit Writer(std::array<char, kMaxOptions + 1>& into) : into_(into) {}
  bool text(const char* text) {
    const size_t size = strlen(text);
    if (used_ + size > kMaxOptions) return false;
    memcpy(into_.data() + used_, text, size + 1);
    used_ += size;
    return true;
  }
  bool number(int value) {
    std::array<char, 12> digits{};
    char* at = digits.data() + digits.size() - 1;
    do {
      *--at = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value != 0);
    return text(at);
  }

 private:
  std::array<char, kMaxOptions + 1>& into_;
  size_t used_ = 0;
};

bool write_options(Request& request) {
  Writer writer(request.options);
  for (size_t i = 0; i < request.dirs.size(); ++i) {
    const char* before = ":";
    if (i == 0) before = "lowerdir=";
    if (i == request.lower_count) before = ",upperdir=";
    if (i == request.lower_count + 1) before = ",workdir=";
    if (!writer.text(before) || !writer.number(request.fds[i])) return false;
  }
  return writer.text(request.options_behind);
}

// Puts an idmapped copy of the mount that `dir` is in over it: in the child's mount namespace the
// path then leads to that.
const char* map_over(const char* dir, int user_namespace) {
  const auto tree =
      static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, dir, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (tree < 0) return "open_tree(clone)";
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(user_namespace);
  const char* failed = nullptr;
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) {
    failed = "mount_setattr(idmap)";
  } else if (syscall(SYS_move_mount, tree, "", AT_FDCWD, dir, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    failed = "move_mount(idmapped copy)";
  }
  const int error = errno;
  close(tree);
  errno = error;
  return failed;
}

int clone_part(const char* target, const char* sub_path) {
  const int top = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (top < 0) return -1;
  open_how how{};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const auto part = static_cast<int>(syscall(SYS_openat2, top, sub_path, &how, sizeof how));
  const auto clone =
      part < 0 ? -1
               : static_cast<int>(syscall(SYS_open_tree, part, "",
                                          OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
  const int error = errno;
  if (part >= 0) close(part);
  close(top);
  errno = error;
  return clone;
}

// In the child. Its mount namespace is its own, so that the mount shows nowhere else; its working
// directory is that of its descriptors, so that "7" names the directory opened as 7.
void mount_and_clone(Request& request, Told& told) {
  const auto failed = [&](const char* call) {
    told.error = errno;
    told.call = call;
  };
  if (unshare(CLONE_NEWNS) != 0) return failed("unshare(CLONE_NEWNS)");
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return failed("mount(\"/\", MS_REC|MS_PRIVATE)");
  }
  // Only now: overlayfs takes directories of the mount namespace that it is called in.
  for (size_t i = 0; i < request.dirs.size(); ++i) {
    told.about = request.dirs[i];
    if (request.user_namespace >= 0 && i < request.lower_count) {
      if (const char* call = map_over(request.dirs[i], request.user_namespace)) return failed(call);
    }
    request.fds[i] = open(request.dirs[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (request.fds[i] < 0) return failed("open(directory of the overlay)");
  }
  told.about = nullptr;
  errno = ENAMETOOLONG;
  if (!write_options(request)) return failed("mount(overlay): options longer than a page");
  if (chdir("/proc/self/fd") != 0) return failed("chdir(\"/proc/self/fd\")");
  if (mount("overlay", request.target, "overlay", request.flags, request.options.data()) != 0) {
    return failed("mount(overlay)");
  }
  told.about = request.sub_path;
  const auto clone = request.sub_path != nullptr
                         ? clone_part(request.target, request.sub_path)
                         : static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, request.target,
                                                    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (clone < 0)
    return failed(request.sub_path != nullptr ? "sub path" : "open_tree(overlay, clone)");
  told.fd = clone;
}

// What the child met, in words.
Error explain(const Told& told, const OverlayMount& overlay) {
  const int error = told.error != 0 ? told.error : ECANCELED;
  const std::string call = told.call != nullptr ? told.call : "mount(overlay)";
  if (told.about == nullptr)
    return Error::from_errno(error, cat(call, " of ", overlay.lower_dirs.size(), " layers"));
  Error out = Error::from_errno(
      error, cat(call, " ", quote(told.about, 1024), ", ", overlay.lower_dirs.size(), " layers"));
  const Fd there(open(told.about, O_PATH | O_CLOEXEC));
  if (error != EINVAL || overlay.ids.empty() || !there.valid()) return out;
  return std::move(out)
      .with_code(Code::kFailedPrecondition)
      .add_context(cat("files of ", fs_name(there), " cannot be shown under other ids here"));
}

void close_all(const std::vector<int>& fds) {
  for (const int fd : fds) {
    if (fd >= 0) close(fd);
  }
}

}  // namespace

Result<Fd> make_overlay_by_path(const OverlayMount& overlay) {
  Request request;
  for (const std::string& dir : overlay.lower_dirs) request.dirs.push_back(dir.c_str());
  request.lower_count = request.dirs.size();
  if (!overlay.upper_dir.empty()) {
    request.dirs.push_back(overlay.upper_dir.c_str());
    request.dirs.push_back(overlay.work_dir.c_str());
  } else {
    request.flags = MS_RDONLY;
  }
  Fd space;
  if (!overlay.ids.empty()) {
    space = FLUYT_TRY(make_user_namespace(overlay.ids.uids, overlay.ids.gids));
    request.user_namespace = space.raw();
  }
  if (!overlay.sub_path.empty()) request.sub_path = overlay.sub_path.c_str();
  request.fds.assign(request.dirs.size(), -1);
  request.target = request.dirs.front();
  std::string options = cat(",", kOverlayOptions);
  // Between quotes, for it may hold commas.
  if (!overlay.label.empty()) options += cat(",context=\"", overlay.label, "\"");
  request.options_behind = options.c_str();
  void* shared =
      mmap(nullptr, sizeof(Told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return Error::from_errno(errno, "mmap(shared)");
  Told* told = new (shared) Told;
  // Memory copied, descriptors shared. No signal at its end: who waits for children of the program
  // does not see it. Signals stay blocked, so that no handler of ours runs in it.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const long pid = syscall(SYS_clone, CLONE_FILES, nullptr, nullptr, nullptr, nullptr);
  if (pid == 0) {
    mount_and_clone(request, *told);
    close_all(request.fds);
    _exit(0);
  }
  const int clone_errno = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  Result<Fd> result = Error::from_errno(clone_errno, "clone(CLONE_FILES)");
  if (pid > 0) {
    while (waitpid(static_cast<pid_t>(pid), nullptr, static_cast<int>(__WCLONE)) < 0 &&
           errno == EINTR) {
    }
    if (told->fd >= 0) {
      result = Fd(told->fd);
    } else {
      result = explain(*told, overlay);
    }
  }
  munmap(shared, sizeof(Told));
  return result;
}

}  // namespace fluyt::sys
