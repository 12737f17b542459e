#include <fcntl.h>
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
#include "sys/mount.h"

namespace fluyt::sys {

namespace {

constexpr size_t kMaxOptions = 4095;  // mount(2) takes a page

// What the child tells, in memory that both see.
struct Told {
  const char* call = nullptr;  // that failed
  int error = 0;
  int fd = -1;  // of the mount, in the table that both have
};

// Everything the child needs, made before it is there: it may not allocate, since another thread
// may have held the allocator's lock.
struct Request {
  std::vector<const char*> dirs;  // lower ones, then upper and work if there are
  size_t lower_count = 0;
  const char* target = nullptr;
  const char* more_options = nullptr;
  unsigned long flags = 0;
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
  return writer.text(request.more_options);
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
    request.fds[i] = open(request.dirs[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (request.fds[i] < 0) return failed("open(directory of the overlay)");
  }
  errno = ENAMETOOLONG;
  if (!write_options(request)) return failed("mount(overlay): options longer than a page");
  if (chdir("/proc/self/fd") != 0) return failed("chdir(\"/proc/self/fd\")");
  if (mount("overlay", request.target, "overlay", request.flags, request.options.data()) != 0) {
    return failed("mount(overlay)");
  }
  const auto clone = static_cast<int>(
      syscall(SYS_open_tree, AT_FDCWD, request.target, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (clone < 0) return failed("open_tree(overlay, clone)");
  told.fd = clone;
}

void close_all(const std::vector<int>& fds) {
  for (const int fd : fds) {
    if (fd >= 0) close(fd);
  }
}

}  // namespace

Result<Fd> make_overlay_by_path(const OverlayMount& overlay, const std::string& more_options) {
  Request request;
  for (const std::string& dir : overlay.lower_dirs) request.dirs.push_back(dir.c_str());
  request.lower_count = request.dirs.size();
  if (!overlay.upper_dir.empty()) {
    request.dirs.push_back(overlay.upper_dir.c_str());
    request.dirs.push_back(overlay.work_dir.c_str());
  } else {
    request.flags = MS_RDONLY;
  }
  request.fds.assign(request.dirs.size(), -1);
  request.target = request.dirs.front();
  request.more_options = more_options.c_str();
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
      const int error = told->error != 0 ? told->error : ECANCELED;
      result = Error::from_errno(error, cat(told->call != nullptr ? told->call : "mount(overlay)",
                                            " of ", overlay.lower_dirs.size(), " layers"));
    }
  }
  munmap(shared, sizeof(Told));
  return result;
}

}  // namespace fluyt::sys
