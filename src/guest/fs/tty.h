#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "guest/fs/line_discipline.h"
#include "guest/fs/terminal.h"
#include "guest/platform/host/poller.h"
#include "guest/vfs/inode.h"

/// Terminals of the guest's own (pty(7)). Each has two sides. The *slave* is what programs call
/// their terminal: /dev/pts/N. The *master* is held by a guest program that opened /dev/ptmx, or by
/// the sentry itself, which then moves bytes between it and a descriptor of the host (a *bridge*).
///
/// For a container with `terminal: true`:
///
///     auto pts = make_devpts({...}, kernel);              // one instance a container
///     tree.mount(<rootfs/dev/pts>, pts->root(), "devpts"); pts->mounted_at(<the mounted root's
///     dentry>); Pts::Console console = pts->open_console(kernel.workers, poller,
///     std::move(descriptor), credentials);
///     // console.slave is standard input, output and error; console.bridge->resize(rows, columns)
///
/// `descriptor` is a terminal of the host, which is set to raw mode here (the slave of a pair whose
/// master the caller gave away over the console socket), or any stream socket; it is to have
/// O_NONBLOCK, so that a host that does not read holds up nothing but output. The line discipline,
/// job control and signals are the guest's; the host's terminal only carries bytes, and its size is
/// copied to the guest's at the start and at `refresh_size()`: call that when SIGWINCH arrives.
/// When the descriptor ends, the guest's terminal hangs up; when the last slave is closed and all
/// output is written, the bridge closes the descriptor. Nothing here needs a path, so it works in a
/// confined sentry.
namespace fluyt::guest {

class Tty;
class TtyBridge;

struct PtsOptions {
  uint32_t mode = 0620;       // of the slaves
  uint32_t gid = 5;           // tty
  uint32_t ptmx_mode = 0666;  // of the instance's own ptmx
  size_t max = 4096;          // terminals at a time
};

/// One instance of devpts.
class Pts {
 public:
  virtual ~Pts() = default;
  virtual InodePtr root() = 0;
  /// Where it is mounted: the slaves that have no path of their own yet are named below it.
  virtual void mounted_at(const DentryPtr& root) = 0;

  struct Console {
    FilePtr slave;  // open for reading and writing
    std::shared_ptr<Terminal> terminal;
    std::shared_ptr<TtyBridge> bridge;
  };
  virtual ErrnoOr<Console> open_console(Workers& workers, std::shared_ptr<host::Poller> poller,
                                        sys::Fd descriptor, const Credentials& owner) = 0;
};

/// `host` outlives every terminal.
std::shared_ptr<Pts> make_devpts(const PtsOptions& options, TerminalHost& host);

/// Moves bytes between a guest terminal's master side and a descriptor of the host, on a thread of
/// its own, until either ends.
class TtyBridge {
 public:
  virtual ~TtyBridge() = default;
  virtual void resize(uint16_t rows, uint16_t columns) = 0;
  /// Takes over the size of the host's terminal, if it is one.
  virtual void refresh_size() = 0;
  /// Waits until all that the guest has written is out at the host, or `timeout_ms` are over. For
  /// who wants the last words of a program that has ended.
  virtual void drain(int timeout_ms) = 0;
};

/// TIOCGPTPEER of a master: a description of its slave, not yet in any table. ENOTTY for a file
/// that is no master.
ErrnoOr<FilePtr> open_peer(Caller& caller, File& master, int flags);

}  // namespace fluyt::guest
