#include "guest/task/seccomp.h"

#include <array>

#include "guest/sys/handlers.h"

namespace fluyt::guest {
namespace {

constexpr uint32_t kTsync = 1, kLogFlag = 2, kSpecAllow = 4, kTsyncEsrch = 16;

struct Program {  // struct sock_fprog
  uint16_t length = 0;
  uint16_t padding[3] = {};
  uint64_t code = 0;
};

bool is_known(uint32_t action) {
  constexpr std::array kKnown = {kFilterKillProcess, kFilterKillThread, kFilterTrap, kFilterErrno,
                                 kFilterTrace,       kFilterLog,        kFilterAllow};
  for (const uint32_t known : kKnown)
    if (action == known) return true;
  return false;
}

}  // namespace

ErrnoOr<uint64_t> set_seccomp_strict(Task& task) {
  if (task.filter.load() != nullptr) return Errno(EINVAL);
  task.strict = true;
  return uint64_t{0};
}

ErrnoOr<uint64_t> set_seccomp_filter(Task& task, uint32_t flags, uint64_t program) {
  // Listeners are not had, and with them goes what only they can use.
  if ((flags & ~(kTsync | kLogFlag | kSpecAllow | kTsyncEsrch)) != 0) return Errno(EINVAL);
  const Program given = GUEST_TRY(task.get<Program>(program));
  if (given.length == 0 || given.length > FilterChain::kMaxInstructions) return Errno(EINVAL);
  std::vector<FilterInstruction> code(given.length);
  if (!task.no_new_privileges && !task.credentials.has(kCapSysAdmin)) return Errno(EACCES);
  GUEST_TRY(task.copy_in(given.code, std::as_writable_bytes(std::span(code))));
  if (task.strict) return Errno(EINVAL);

  std::lock_guard lock(task.kernel.lock);
  const bool all = (flags & kTsync) != 0;
  if (all) {
    for (const Task* other : task.process->threads) {
      if (other->strict || (other->filters && !task.filters) ||
          (other->filters && !task.filters->descends_from(other->filters.get())))
        return (flags & kTsyncEsrch) != 0 ? ErrnoOr<uint64_t>(Errno(ESRCH))
                                          : static_cast<uint64_t>(other->number);
    }
  }
  std::shared_ptr<const FilterChain> chain = GUEST_TRY(FilterChain::add(task.filters, code));
  task.install_filter(chain);
  if (!all) return uint64_t{0};
  for (Task* other : task.process->threads) {
    other->install_filter(chain);
    if (task.no_new_privileges) other->no_new_privileges = true;
  }
  return uint64_t{0};
}

ErrnoOr<uint64_t> sys_seccomp(Task& task, Arguments a) {
  const auto flags = static_cast<uint32_t>(a[1]);
  switch (as_int(a[0])) {
    case 0:  // SECCOMP_SET_MODE_STRICT
      if (flags != 0 || a[2] != 0) return Errno(EINVAL);
      return set_seccomp_strict(task);
    case 1:  // SECCOMP_SET_MODE_FILTER
      return set_seccomp_filter(task, flags, a[2]);
    case 2: {  // SECCOMP_GET_ACTION_AVAIL
      if (flags != 0) return Errno(EINVAL);
      const auto action = GUEST_TRY(task.get<uint32_t>(a[2]));
      return is_known(action) ? ErrnoOr<uint64_t>(uint64_t{0}) : Errno(EOPNOTSUPP);
    }
    default:
      return Errno(EINVAL);
  }
}

}  // namespace fluyt::guest
