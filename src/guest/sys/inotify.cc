#include "guest/fs/inotify.h"

#include <fcntl.h>
#include <sys/inotify.h>

#include "guest/sys/handlers.h"

// inotify(7).
namespace fluyt::guest {
namespace {

constexpr uint32_t kKnown = IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ONLYDIR |
                            IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_CREATE | IN_MASK_ADD |
                            IN_ISDIR | IN_ONESHOT;
static_assert(IN_NONBLOCK == O_NONBLOCK && IN_CLOEXEC == O_CLOEXEC);

ErrnoOr<uint64_t> make_instance(Task& task, int flags) {
  if ((flags & ~(IN_NONBLOCK | IN_CLOEXEC)) != 0) return Errno(EINVAL);
  const std::shared_ptr<Watches>& watches = task.kernel.tree->watches;
  std::shared_ptr<Watcher> watcher = GUEST_TRY(watches->make_watcher());
  return add_file(task, std::make_shared<Inotify>(watches, std::move(watcher), flags & IN_NONBLOCK),
                  (flags & IN_CLOEXEC) != 0);
}

ErrnoOr<FilePtr> get_open(Task& task, uint64_t fd) {
  FilePtr file = GUEST_TRY(task.files->get(as_int(fd)));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return file;
}

}  // namespace

ErrnoOr<uint64_t> sys_inotify_init(Task& task, Arguments /*a*/) { return make_instance(task, 0); }
ErrnoOr<uint64_t> sys_inotify_init1(Task& task, Arguments a) {
  return make_instance(task, as_int(a[0]));
}

ErrnoOr<uint64_t> sys_inotify_add_watch(Task& task, Arguments a) {
  const auto mask = static_cast<uint32_t>(a[2]);
  if (mask == 0 || (mask & ~kKnown) != 0) return Errno(EINVAL);
  const FilePtr file = GUEST_TRY(get_open(task, a[0]));
  auto* inotify = dynamic_cast<Inotify*>(file.get());
  if (inotify == nullptr ||
      (mask & (IN_MASK_ADD | IN_MASK_CREATE)) == (IN_MASK_ADD | IN_MASK_CREATE))
    return Errno(EINVAL);
  const std::string path = GUEST_TRY(task.get_path(a[1]));
  const WalkFrom from = GUEST_TRY(walk_from(task, kAtCwd, path));
  const DentryPtr found = GUEST_TRY(task.kernel.tree->find(
      from, path, (mask & IN_DONT_FOLLOW) != 0 ? LastLink::kKeep : LastLink::kFollow));
  if ((mask & IN_ONLYDIR) != 0 && !found->inode->is_dir()) return Errno(ENOTDIR);
  const Stat stat = GUEST_TRY(found->inode->stat());
  GUEST_TRY(may_access(task.credentials, stat, 4));
  const int32_t watch =
      GUEST_TRY(task.kernel.tree->watches->add(inotify->watcher(), found->inode, mask));
  return static_cast<uint64_t>(watch);
}

ErrnoOr<uint64_t> sys_inotify_rm_watch(Task& task, Arguments a) {
  const FilePtr file = GUEST_TRY(get_open(task, a[0]));
  auto* inotify = dynamic_cast<Inotify*>(file.get());
  if (inotify == nullptr) return Errno(EINVAL);
  GUEST_TRY(task.kernel.tree->watches->remove(inotify->watcher(), as_int(a[1])));
  return uint64_t{0};
}

}  // namespace fluyt::guest
