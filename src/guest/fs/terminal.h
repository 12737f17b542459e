#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "guest/vfs/inode.h"

/// Terminals as job control sees them (credentials(7), tty_ioctl(4)): whose session they control
/// and which of its groups is in the foreground. Who is in which session is the kernel's.
namespace fluyt::guest {

class Terminal {
 public:
  Terminal() = default;
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  virtual ~Terminal() = default;

  /// A further description of it, for /dev/tty; EIO when it is gone.
  virtual ErrnoOr<FilePtr> reopen(const DentryPtr& path, const InodePtr& inode, int flags) = 0;
  /// The device as /proc/PID/stat has it.
  virtual uint64_t device() const = 0;

  std::mutex mutex;  // taken behind Kernel::lock, before nothing
  int32_t session = 0;
  int32_t foreground = 0;
};

/// What a terminal asks of the table of processes. Called without locks.
class TerminalHost {
 public:
  virtual ~TerminalHost() = default;
  virtual void signal_foreground(Terminal& terminal, int signal) = 0;
  /// It is gone: its session's processes have none any more, and their leader hears of it.
  virtual void hang_up(Terminal& terminal) = 0;
};

/// A background group reads nothing (`signal` SIGTTIN) and changes nothing (SIGTTOU): it is sent
/// the signal, and the call is made again. EIO when that would be for ever.
Errno may_use(Terminal& terminal, JobControl& job, int signal);

enum class TerminalSide : uint8_t { kSlave, kMaster };
/// TIOCGPGRP, TIOCSPGRP, TIOCGSID, TIOCSCTTY, TIOCNOTTY; ENOIOCTLCMD for every other request.
ErrnoOr<uint64_t> control_jobs(const std::shared_ptr<Terminal>& terminal, TerminalSide side,
                               Caller& caller, const File& file, uint32_t request,
                               uint64_t argument);
inline constexpr int kNoSuchRequest = 515;  // ENOIOCTLCMD, never seen by a program

/// What opening a terminal does beyond opening it: a session leader without one makes it its own,
/// unless O_NOCTTY was given.
void take_at_open(const std::shared_ptr<Terminal>& terminal, Caller& caller, int flags);

}  // namespace fluyt::guest
