#include "sys/pty.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::sys {

namespace {
constexpr unsigned kPtmxMajor = 5;
constexpr unsigned kPtmxMinor = 2;
constexpr ino_t kPtmxInode = 2;  // devpts gives it to no other file
}  // namespace

Result<Pty> open_pty(FdRef devpts) {
  if (FLUYT_TRY(fs_magic(devpts)) != kDevptsMagic) {
    return Error(Code::kFailedPrecondition, "/dev/pts is not a devpts file system");
  }
  Pty pty;
  pty.master = FLUYT_TRY(open_in(devpts, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW));
  const struct stat info = FLUYT_TRY(stat_of(pty.master));
  if (!S_ISCHR(info.st_mode) || info.st_rdev != makedev(kPtmxMajor, kPtmxMinor) ||
      info.st_ino != kPtmxInode || FLUYT_TRY(fs_magic(pty.master)) != kDevptsMagic) {
    return Error(Code::kFailedPrecondition, "/dev/pts/ptmx is not the pty multiplexer");
  }
  int unlock = 0;
  if (ioctl(pty.master.raw(), TIOCSPTLCK, &unlock) != 0) {
    return Error::from_errno(errno, "ioctl(TIOCSPTLCK)");
  }
  const int peer = ioctl(pty.master.raw(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (peer < 0) return Error::from_errno(errno, "ioctl(TIOCGPTPEER)");
  pty.peer = Fd(peer);
  return pty;
}

Result<> keep_newlines(FdRef terminal) {
  termios settings{};
  if (tcgetattr(terminal.raw(), &settings) != 0) return Error::from_errno(errno, "tcgetattr()");
  settings.c_oflag &= ~static_cast<tcflag_t>(ONLCR);
  if (tcsetattr(terminal.raw(), TCSANOW, &settings) != 0)
    return Error::from_errno(errno, "tcsetattr()");
  return {};
}

Result<> set_window_size(FdRef terminal, uint16_t height, uint16_t width) {
  winsize size{};
  size.ws_row = height;
  size.ws_col = width;
  if (ioctl(terminal.raw(), TIOCSWINSZ, &size) != 0) {
    return Error::from_errno(errno, cat("ioctl(TIOCSWINSZ, ", height, "x", width, ")"));
  }
  return {};
}

Result<> set_controlling_terminal(FdRef terminal) {
  if (ioctl(terminal.raw(), TIOCSCTTY, 0) != 0) return Error::from_errno(errno, "ioctl(TIOCSCTTY)");
  return {};
}

Result<> set_owner(FdRef fd, uint32_t uid, uint32_t gid) {
  if (fchown(fd.raw(), uid, gid) != 0) {
    return Error::from_errno(errno, cat("fchown([", fd.raw(), "], ", uid, ")"));
  }
  return {};
}

}  // namespace fluyt::sys
