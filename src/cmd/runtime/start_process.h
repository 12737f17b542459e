#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/log.h"
#include "oci/runtime_spec.h"
#include "sys/fd.h"
#include "sys/process.h"

/// What create, run and exec share: handing over a terminal, pid files, descriptors.
namespace fluyt::commands {

/// Who gives up the terminal says where to; who keeps it does not.
Result<> check_terminal(const Invocation& call, bool terminal, bool detached,
                        const std::string& console_socket);
/// Sends the pty's master to who listens at `path`.
Result<> send_console(const std::string& path, sys::FdRef master);
/// Sends the process's pidfd to who listens at `path`.
Result<> send_pidfd(const std::string& path, const sys::Process& process);
Result<> write_pid_file(const std::string& path, pid_t pid);
/// The exit status of one that was asked to end, and has undone what it made: as if the signal had
/// ended it. Any other error stays one.
Result<int> end_of(Invocation& call, Error error);
/// With --debug: the flags of the seccomp filter, and the names in it that nobody knows.
void debug_filter(Log& log, const oci::Spec& spec);
/// How many descriptors from 3 up to keep of the `count` asked for: up to the last one that was
/// given to us. Fewer are a warning. Asked before we open any of our own.
Result<int> open_descriptors(int count, Log& log);
/// LISTEN_FDS of our environment counts into the descriptors to keep, and is passed on, where
/// LISTEN_PID says that it is for us.
int add_listen_fds(int preserve_fds, oci::Process& process);

}  // namespace fluyt::commands
