#include "sys/file_owner.h"

#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"

namespace fluyt::sys {

Result<std::shared_ptr<void>> own_new_files(uid_t uid, gid_t gid) {
  // A change of these ids makes the process one that dumps no core.
  static const bool dumpable = prctl(PR_GET_DUMPABLE) == 1;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> had{};
  if (syscall(SYS_capget, &header, had.data()) != 0) return Error::from_errno(errno, "capget()");
  const auto gid_before = static_cast<gid_t>(setfsgid(gid));
  const auto uid_before = static_cast<uid_t>(setfsuid(uid));
  std::shared_ptr<void> held(nullptr, [=](void*) {
    setfsuid(uid_before);
    setfsgid(gid_before);
    if (dumpable) prctl(PR_SET_DUMPABLE, 1);
  });
  // Neither call says whether it did anything; an id that nobody has changes nothing.
  if (static_cast<uid_t>(setfsuid(static_cast<uid_t>(-1))) != uid ||
      static_cast<gid_t>(setfsgid(static_cast<gid_t>(-1))) != gid)
    return Error::from_errno(EPERM, cat("setfsuid(", uid, "), setfsgid(", gid, ")"));
  // Those over files have gone with the 0.
  if (syscall(SYS_capset, &header, had.data()) != 0) return Error::from_errno(errno, "capset()");
  return held;
}

}  // namespace fluyt::sys
