#include "guest/sandbox/streams.h"

#include <fcntl.h>

#include "base/strings.h"
#include "guest/platform/host/io.h"

namespace fluyt::guest {

Result<Streams> open_streams(Kernel& kernel, std::array<sys::Fd, 3> descriptors,
                             const std::shared_ptr<host::Poller>& poller,
                             const std::shared_ptr<Pts>& terminals, const Credentials& owner,
                             const std::shared_ptr<HostTerminal>& of_host) {
  Streams out;
  Pts::Console console;
  for (size_t i = 0; i < descriptors.size(); ++i) {
    sys::Fd& fd = descriptors[i];
    const bool is_terminal = host::is_terminal(fd);
    if (is_terminal && terminals && !console.slave) {
      ErrnoOr<Pts::Console> opened =
          terminals->open_console(kernel.workers, poller, std::move(fd), owner);
      if (!opened.ok())
        return Error::from_errno(opened.error().value(), "a terminal of the guest's");
      console = std::move(opened).value();
      out.terminal = console.terminal;
      out.bridge = console.bridge;
    }
    if (is_terminal && console.slave) {
      out.files[i] = console.slave;
      continue;
    }
    ErrnoOr<FilePtr> made =
        make_host_stream(std::move(fd), O_RDWR, poller, is_terminal ? of_host : nullptr, owner.uid);
    if (!made.ok()) return Error::from_errno(made.error().value(), cat("standard stream ", i));
    out.files[i] = std::move(made).value();
    if (is_terminal && !out.terminal) {
      out.terminal = of_host;
      of_host->stream = out.files[i];
    }
  }
  return out;
}

}  // namespace fluyt::guest
