#pragma once

#include "base/result.h"

namespace fluyt::guest::host {

/// From here on signals, and connections to abstract names of unix(7), reach only what is made
/// afterwards, and ourselves (Landlock, Linux 6.12; before, nothing changes). Brokers come behind
/// it: a parent's end would not end a child that is out of its reach. For a process with one
/// thread, which gains no privileges any more.
Result<> stay_among_children();

/// Capabilities away, no file system to be reached by name and no TCP port by number (Landlock, as
/// much of that as the kernel has). For a process with one thread; what it makes afterwards
/// inherits both.
Result<> drop_privileges();

/// Into a mount namespace with nothing in it but an empty read-only directory. Before
/// drop_privileges(): it takes CAP_SYS_ADMIN.
Result<> leave_tree();

/// The sentry's own filter, for every thread of it: what src/guest calls and nothing else. No path
/// is opened, nothing is executed, no memory becomes executable, no socket but pairs. Nobody
/// without CAP_SYS_PTRACE looks into it any more; stubs come before that, for it looks into them.
Result<> confine_sentry();

/// That of a process with one thread which has all it needs: it passes messages on over sockets
/// that are there (poll, recvmsg, sendmsg, read, write), raises signals in itself alone, and ends.
/// After drop_privileges(). Nobody without CAP_SYS_PTRACE looks into it.
Result<> confine_messenger();

}  // namespace fluyt::guest::host
