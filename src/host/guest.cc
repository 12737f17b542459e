#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "host/probe.h"
#include "oci/runtime_spec.h"
#include "runtime/seccomp/compile.h"
#include "sys/clone.h"
#include "sys/identity.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

namespace fluyt::host {

namespace {

namespace seccomp = runtime::seccomp;

// A listener as src/guest/platform/notify has them, one a guest thread.
Result<std::string> platform() {
  constexpr uint64_t kSyncWakeUp = 1;
  oci::Seccomp profile;
  profile.default_action = "SCMP_ACT_ALLOW";
  profile.flags = std::vector<std::string>{"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  profile.listener_path = "/none";  // the listener stays here
  profile.syscalls = {
      {.names = {"getpriority"}, .action = "SCMP_ACT_NOTIFY", .errno_ret = {}, .args = {}}};
  const seccomp::Program program = FLUYT_TRY(seccomp::compile(profile));
  FLUYT_TRY(sys::set_no_new_privileges());
  const sys::Fd listener = FLUYT_TRY(seccomp::load(program));
  const bool in_turns = ::ioctl(listener.raw(), SECCOMP_IOCTL_NOTIF_SET_FLAGS, kSyncWakeUp) == 0;
  return std::string(in_turns ? "+notifications, handed over on one processor"
                              : "-notifications; not handed over on one processor");
}

// The guest's memory is read and written from outside.
Result<std::string> foreign_memory() {
  static uint64_t word = 1;
  auto child = FLUYT_TRY(sys::clone_process({}));
  if (!child) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (true) ::pause();
  }
  uint64_t seen = 0;
  const iovec here{.iov_base = &seen, .iov_len = sizeof seen};
  const iovec there{.iov_base = &word, .iov_len = sizeof word};
  const ssize_t got = ::process_vm_readv(child->pid(), &here, 1, &there, 1, 0);
  const int error = errno;
  FLUYT_TRY(child->kill(SIGKILL));
  FLUYT_TRY(child->wait(Deadline::after_ms(5000)));
  if (got != sizeof seen) return Error::from_errno(error, "process_vm_readv(a child)");
  return std::string("a child's can be read");
}

Result<std::string> landlock() {
  constexpr unsigned kVersion = 1;  // LANDLOCK_CREATE_RULESET_VERSION
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, kVersion);
  if (version < 0) return Error::from_errno(errno, "landlock_create_ruleset(VERSION)");
  return cat("version ", version);
}

}  // namespace

void examine_guest(Findings findings) {
  Findings::About about{.name = "guest threads",
                        .loses = "rung, the guest kernel, does not start",
                        .remedy = "Linux 5.19 with CONFIG_SECCOMP_FILTER"};
  auto found = in_child(platform);
  if (!found.ok()) {
    findings.add(std::move(about), found);
  } else {
    const bool whole = found->starts_with('+');
    if (!whole) {
      about.loses = "every system call under rung costs a wake-up on another processor";
      about.remedy = "Linux 6.6";
    }
    findings.add(std::move(about), whole ? Has::kYes : Has::kPartly, found->substr(1));
  }
  findings.try_out({.name = "guest memory",
                    .loses = "rung, the guest kernel, does not start",
                    .remedy = "sysctl -w kernel.yama.ptrace_scope=1; CONFIG_CROSS_MEMORY_ATTACH"},
                   foreign_memory);
  findings.try_out({.name = "Landlock",
                    .loses = "rung's kernel process has one wall less around it",
                    .remedy = "boot with landlock in lsm="},
                   landlock);
}

}  // namespace fluyt::host
