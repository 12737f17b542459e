#pragma once

#include <cstdint>

#include "base/result.h"
#include "sys/fd.h"

/// Pseudo-terminals by descriptor: no name of a container's /dev/pts is ever opened.
namespace fluyt::sys {

struct Pty {
  Fd master;
  Fd peer;
};
/// Opens "ptmx" of the devpts that `devpts` shows the root of, after verifying that it is one, and
/// the other end of it with TIOCGPTPEER.
Result<Pty> open_pty(FdRef devpts);
/// Output as it was written: no carriage return in front of a newline (ONLCR off).
Result<> keep_newlines(FdRef terminal);
Result<> set_window_size(FdRef terminal, uint16_t height, uint16_t width);
/// TIOCSCTTY: makes it the controlling terminal of our new session.
Result<> set_controlling_terminal(FdRef terminal);
/// fchown(2), of the uid alone unless a gid is given.
Result<> set_owner(FdRef fd, uint32_t uid, uint32_t gid = UINT32_MAX);

}  // namespace fluyt::sys
