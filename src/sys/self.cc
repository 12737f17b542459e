#include "sys/self.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "sys/file.h"
#include "sys/mount.h"
#include "sys/self_mount.h"

namespace fluyt::sys {

namespace {

constexpr const char* kSelf = "/proc/self/exe";
constexpr size_t kMaxProgram = 64UL << 20U;

}  // namespace

Result<Fd> read_only_self() {
  Fd mount = FLUYT_TRY(clone_mount(kSelf, Depth::kOne));
  FLUYT_TRY(set_mount_attributes(
      mount,
      {.set = MOUNT_ATTR_RDONLY, .clear = 0, .propagation = MS_PRIVATE, .user_namespace = {}},
      Depth::kOne));
  return mount;
}

Result<bool> runs_protected() {
  struct statfs info{};
  if (statfs(kSelf, &info) != 0) return Error::from_errno(errno, "statfs(\"/proc/self/exe\")");
  if ((info.f_flags & ST_RDONLY) != 0) return true;
  if (info.f_type != TMPFS_MAGIC) return false;  // where sealed memory is
  const Fd self = FLUYT_TRY(open(kSelf, O_RDONLY));
  const int seals = fcntl(self.raw(), F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_WRITE) != 0 && (seals & F_SEAL_SEAL) != 0;
}

Error execute_protected(const std::vector<std::string>& args, char* const* env) {
  std::vector<char*> argv;
  argv.reserve(args.size() + 1);
  for (const std::string& arg : args) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  auto mount = read_only_self();
  if (mount.ok()) {
    // The descriptor goes with the execve, and with it the last way to change the mount.
    execveat(mount->raw(), "", argv.data(), env, AT_EMPTY_PATH);
  }
  auto program = read_file(kSelf, kMaxProgram);
  if (!program.ok()) return std::move(program).error();
  auto copy = sealed_memfd("self", *program);
  if (!copy.ok()) return std::move(copy).error();
  execveat(copy->raw(), "", argv.data(), env, AT_EMPTY_PATH);
  return Error::from_errno(errno, "execveat(self)");
}

}  // namespace fluyt::sys
