#include "cmd/runtime/start_process.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/strings.h"
#include "runtime/seccomp/compile.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::commands {

Result<> check_terminal(const Invocation& call, bool terminal, bool detached,
                        const std::string& console_socket) {
  if (terminal && detached && console_socket.empty()) {
    return Error(Code::kInvalidArgument, cat("cannot allocate tty if ", call.launcher.name(),
                                             " will detach without setting console socket"));
  }
  if (!console_socket.empty() && !(terminal && detached)) {
    return Error(Code::kInvalidArgument, cat("cannot use console socket if ", call.launcher.name(),
                                             " will not detach or allocate tty"));
  }
  return {};
}

Result<> send_console(const std::string& path, sys::FdRef master) {
  const sys::Fd socket =
      FLUYT_TRY_CONTEXT(sys::connect_unix(path, SOCK_STREAM), "option --console-socket");
  return sys::send_with_fds(socket, "/dev/ptmx", {master});
}

Result<> send_pidfd(const std::string& path, const sys::Process& process) {
  const sys::Fd socket =
      FLUYT_TRY_CONTEXT(sys::connect_unix(path, SOCK_STREAM), "option --pidfd-socket");
  return sys::send_with_fds(socket, "pidfd", {process.pidfd()});
}

Result<> write_pid_file(const std::string& path, pid_t pid) {
  return sys::write_file_atomic(sys::kCwd, path, std::to_string(pid), 0644);
}

Result<int> open_descriptors(int count, Log& log) {
  if (count <= 0) return 0;
  int open = 0;
  int last = 2;
  for (const std::string& name : FLUYT_TRY(sys::list_dir("/proc/self/fd"))) {
    const auto fd = parse_number<int>(name);
    // What is ours closes at exec; what was given to us does not.
    if (!fd || *fd < 3 || *fd - 3 >= count || fcntl(*fd, F_GETFD) != 0) continue;
    ++open;
    last = std::max(last, *fd);
  }
  if (open < count) {
    log.warn(cat("option --preserve-fds: ", count, ": only ", open, " of them are open"));
  }
  return last - 2;
}

int add_listen_fds(int preserve_fds, oci::Process& process) {
  // Of another process's environment we may be the heir, not of its descriptors (sd_listen_fds(3)).
  const char* whose = getenv("LISTEN_PID");
  if (whose == nullptr || parse_number<pid_t>(whose) != getpid()) return preserve_fds;
  const char* text = getenv("LISTEN_FDS");
  const auto count = text == nullptr ? std::nullopt : parse_number<int>(text);
  if (!count || *count <= 0 || *count > 1024) return preserve_fds;
  process.env.push_back(cat("LISTEN_FDS=", *count));
  process.env.emplace_back("LISTEN_PID=1");
  return preserve_fds + *count;
}

Result<int> end_of(Invocation& call, Error error) {
  const auto asked = call.signals ? call.signals->asked_to_end() : std::nullopt;
  if (error.code() != Code::kCancelled || !asked) return error;
  call.log.fail(error);
  return 128 + *asked;
}

void debug_filter(Log& log, const oci::Spec& spec) {
  if (!log.enabled(LogLevel::kDebug) || !spec.linux_ || !spec.linux_->seccomp) return;
  auto program = runtime::seccomp::compile(*spec.linux_->seccomp);
  if (!program.ok()) return;
  // There is no second thread to synchronise with.
  uint32_t flags = program->flags & ~static_cast<uint32_t>(SECCOMP_FILTER_FLAG_TSYNC);
  if (program->notifies) flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  log.debug(cat("seccomp filter flags: ", flags));
  if (!program->unknown_names.empty()) {
    log.debug(cat("linux.seccomp.syscalls: passed over, for no table knows them: ",
                  join(program->unknown_names, " ")));
  }
}

}  // namespace fluyt::commands
