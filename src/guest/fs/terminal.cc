#include "guest/fs/terminal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "guest/fs/ioctl.h"

namespace fluyt::guest {

Errno may_use(Terminal& terminal, JobControl& job, int signal) {
  if (job.terminal().get() != &terminal) return kOk;
  const int32_t group = job.process_group();
  {
    std::lock_guard lock(terminal.mutex);
    if (terminal.foreground == 0 || terminal.foreground == group) return kOk;
  }
  if (job.ignores(signal)) return signal == SIGTTIN ? Errno(EIO) : kOk;
  if (job.is_orphaned()) return Errno(EIO);
  job.signal_group(group, signal);
  return Errno(kRestartSys);
}

namespace {

Errno set_foreground(const std::shared_ptr<Terminal>& terminal, Caller& caller, uint64_t argument) {
  JobControl& job = *caller.job;
  if (const Errno allowed = may_use(*terminal, job, SIGTTOU); !allowed.ok())
    return allowed.value() == EIO ? Errno(ENOTTY) : allowed;
  if (job.terminal() != terminal) return Errno(ENOTTY);
  int32_t group = 0;
  GUEST_TRY(copy_in(caller, argument, group));
  if (group < 0) return Errno(EINVAL);
  if (group == 0 || (group = job.meant(group)) == 0) return Errno(ESRCH);
  GUEST_TRY(job.find_group(group));
  const int32_t session = job.session();  // before the terminal's lock: it takes the kernel's
  std::lock_guard lock(terminal->mutex);
  if (terminal->session != session) return Errno(ENOTTY);
  terminal->foreground = group;
  return kOk;
}

Errno become_controlling(const std::shared_ptr<Terminal>& terminal, Caller& caller,
                         const File& file, uint64_t argument) {
  JobControl& job = *caller.job;
  const std::shared_ptr<Terminal> own = job.terminal();
  if (!job.leads_session()) return Errno(EPERM);
  if (own == terminal) return kOk;
  if (own) return Errno(EPERM);
  int32_t held_by = 0;
  {
    std::lock_guard lock(terminal->mutex);
    held_by = terminal->session;
  }
  const bool may_force = caller.credentials.can(kCapSysAdmin);
  if (held_by != 0) {
    if (argument != 1 || !may_force) return Errno(EPERM);
    job.release_terminal(held_by);
  }
  if (!file.readable() && !may_force) return Errno(EPERM);
  job.take_terminal(terminal);
  return kOk;
}

}  // namespace

ErrnoOr<uint64_t> control_jobs(const std::shared_ptr<Terminal>& terminal, TerminalSide side,
                               Caller& caller, const File& file, uint32_t request,
                               uint64_t argument) {
  switch (request) {
    case TIOCGPGRP:
    case TIOCGSID:
    case TIOCSPGRP:
    case TIOCSCTTY:
    case TIOCNOTTY:
      break;
    default:
      return Errno(kNoSuchRequest);
  }
  if (caller.job == nullptr) return Errno(ENOTTY);
  if (request == TIOCSPGRP) {
    GUEST_TRY(set_foreground(terminal, caller, argument));
    return uint64_t{0};
  }
  if (request == TIOCSCTTY) {
    GUEST_TRY(become_controlling(terminal, caller, file, argument));
    return uint64_t{0};
  }
  const bool own = caller.job->terminal() == terminal;
  if (request == TIOCNOTTY) {
    if (!own || side == TerminalSide::kMaster) return Errno(ENOTTY);
    caller.job->give_up_terminal();
    return uint64_t{0};
  }
  // The master's holder may ask without being of the session.
  if (side == TerminalSide::kSlave && !own) return Errno(ENOTTY);
  int32_t answer = 0;
  {
    std::lock_guard lock(terminal->mutex);
    answer = request == TIOCGSID ? terminal->session : terminal->foreground;
  }
  if (request == TIOCGSID && answer == 0) return Errno(ENOTTY);
  answer = caller.job->shown(answer);
  GUEST_TRY(copy_out(caller, argument, answer));
  return uint64_t{0};
}

void take_at_open(const std::shared_ptr<Terminal>& terminal, Caller& caller, int flags) {
  if ((flags & O_NOCTTY) != 0 || (flags & O_ACCMODE) == O_WRONLY || caller.job == nullptr) return;
  if (!caller.job->leads_session() || caller.job->terminal()) return;
  {
    std::lock_guard lock(terminal->mutex);
    if (terminal->session != 0) return;
  }
  caller.job->take_terminal(terminal);
}

}  // namespace fluyt::guest
