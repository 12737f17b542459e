#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "base/strings.h"
#include "runtime/seccomp/compile.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace fluyt::runtime::seccomp {

namespace {

static_assert(sizeof(Instruction) == sizeof(sock_filter));
static_assert(offsetof(Instruction, code) == offsetof(sock_filter, code));
static_assert(offsetof(Instruction, jump_true) == offsetof(sock_filter, jt));
static_assert(offsetof(Instruction, jump_false) == offsetof(sock_filter, jf));
static_assert(offsetof(Instruction, k) == offsetof(sock_filter, k));

// A null program is looked at after the flags: EFAULT says that the kernel knows them, EINVAL not.
bool kernel_takes(unsigned long flags) {
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, nullptr) != 0 && errno == EFAULT;
}

}  // namespace

Result<sys::Fd> load(const Program& program) {
  uint32_t flags = program.flags;
  if (program.notifies) {
    flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Both answer with a number; TSYNC then has to tell its failure as an error instead.
    if ((flags & SECCOMP_FILTER_FLAG_TSYNC) != 0) flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
  }
  const sock_fprog raw{
      .len = static_cast<unsigned short>(program.code.size()),
      .filter = reinterpret_cast<sock_filter*>(const_cast<Instruction*>(program.code.data()))};
  const long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw);
  if (result < 0) {
    return Error::from_errno(errno, cat("seccomp(SECCOMP_SET_MODE_FILTER, ", flags, ", ",
                                        program.code.size(), " instructions)"));
  }
  if (program.notifies) return sys::Fd(static_cast<int>(result));
  if (result > 0) {
    return Error(Code::kFailedPrecondition, cat("seccomp(SECCOMP_SET_MODE_FILTER, TSYNC): thread ",
                                                result, " has another filter"));
  }
  return sys::Fd();
}

std::vector<std::string> supported_flags() {
  std::vector<std::string> out;
  for (const std::string& name : known_flags()) {
    unsigned long flag = 0;
    if (name == "SECCOMP_FILTER_FLAG_TSYNC") flag = SECCOMP_FILTER_FLAG_TSYNC;
    if (name == "SECCOMP_FILTER_FLAG_LOG") flag = SECCOMP_FILTER_FLAG_LOG;
    if (name == "SECCOMP_FILTER_FLAG_SPEC_ALLOW") flag = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if (name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") {
      flag = SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | SECCOMP_FILTER_FLAG_NEW_LISTENER;
    }
    if (kernel_takes(flag)) out.push_back(name);
  }
  return out;
}

}  // namespace fluyt::runtime::seccomp
