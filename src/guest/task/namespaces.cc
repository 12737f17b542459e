#include "guest/task/namespaces.h"

#include <sys/stat.h>

#include "guest/vfs/file.h"

namespace fluyt::guest {

namespace {

// Those that programs begin in.
constexpr uint64_t kTheUserNamespace = 4026531837;
constexpr uint64_t kTheCgroupNamespace = 4026531835;
constexpr uint64_t kTheNetworkNamespace = 4026531840;
constexpr int64_t kMagic = 0x6e736673;  // NSFS_MAGIC
constexpr uint64_t kDevice = 4;

class NamespaceFile final : public File {
 public:
  using File::File;
  std::string describe() const override {
    return static_cast<const NamespaceInode&>(*inode()).describe();
  }
};

}  // namespace

uint32_t NamespaceInode::type() const { return S_IFREG; }

ErrnoOr<Stat> NamespaceInode::stat() {
  Stat out;
  out.dev = kDevice;
  out.ino = number_;
  out.mode = S_IFREG | 0444;
  out.nlink = 1;
  out.block_size = 4096;
  return out;
}

ErrnoOr<StatfsBuffer> NamespaceInode::statfs() {
  StatfsBuffer out;
  out.type = kMagic;
  return out;
}

ErrnoOr<FilePtr> NamespaceInode::open(DentryPtr path, int flags) {
  return FilePtr(std::make_shared<NamespaceFile>(std::move(path), shared_from_this(), flags));
}

std::string NamespaceInode::describe() const {
  return std::string(name.type) + ":[" + std::to_string(number_) + "]";
}

namespace {

const NamespaceName& name_of(NamespaceKind kind) {
  for (const NamespaceName& name : kNamespaces)
    if (name.kind == kind) return name;
  return kNamespaces[0];
}

std::shared_ptr<NamespaceInode> user_namespace(UserSpacePtr of) {
  const uint64_t number = of ? of->inode_number : kTheUserNamespace;
  UserSpacePtr above = of ? of->above : nullptr;
  Namespaces in;
  in.user = std::move(of);
  return std::make_shared<NamespaceInode>(name_of(NamespaceKind::kUser), number, std::move(in),
                                          std::move(above));
}

std::shared_ptr<NamespaceInode> pid_namespace(const NamespaceName& name, PidSpacePtr of) {
  const uint64_t number = of->inode_number;
  UserSpacePtr owner = of->user;
  Namespaces in;
  in.pids = std::move(of);
  return std::make_shared<NamespaceInode>(name, number, std::move(in), std::move(owner));
}

ErrnoOr<uint64_t> open_namespace(Task& task, std::shared_ptr<NamespaceInode> inode) {
  auto name = std::make_shared<Dentry>(nullptr, inode->describe(), inode);
  const FilePtr file = GUEST_TRY(inode->open(std::move(name), 0 /* O_RDONLY */));
  const int fd = GUEST_TRY(task.files->add(file, true));
  return static_cast<uint64_t>(fd);
}

}  // namespace

ErrnoOr<uint64_t> control_namespace(Task& task, const NamespaceInode& of, uint32_t request,
                                    uint64_t argument) {
  constexpr uint32_t kUser = 0xb701, kParent = 0xb702, kType = 0xb703, kOwner = 0xb704;
  const NamespaceKind kind = of.name.kind;
  const bool is_user = kind == NamespaceKind::kUser;
  const bool is_pids = kind == NamespaceKind::kPid || kind == NamespaceKind::kPidForChildren;
  switch (request) {
    case kParent:
      if (is_pids) {
        const PidSpacePtr& above = of.inside.pids->above;
        if (!above || !above->is_within(*task.process->pids)) return Errno(EPERM);
        return open_namespace(task, pid_namespace(name_of(NamespaceKind::kPid), above));
      }
      if (!is_user) return Errno(EINVAL);
      [[fallthrough]];
    case kUser:
      if (is_user && !of.inside.user) return Errno(EPERM);
      if (!UserSpace::is_within(of.owner.get(), task.credentials.user.get())) return Errno(EPERM);
      return open_namespace(task, user_namespace(of.owner));
    case kType:
      return of.name.flag;
    case kOwner: {
      if (!is_user) return Errno(EINVAL);
      const uint32_t owner = of.inside.user ? of.inside.user->owner : 0;
      GUEST_TRY(task.put(argument, task.credentials.shown_uid(owner)));
      return uint64_t{0};
    }
    default:
      return Errno(ENOTTY);
  }
}

std::shared_ptr<NamespaceInode> namespace_of(const Task& task, const NamespaceName& name) {
  uint64_t number = 0;
  Namespaces in;
  UserSpacePtr owner;
  switch (name.kind) {
    case NamespaceKind::kUser:
      return user_namespace(task.credentials.user);
    case NamespaceKind::kCgroup:
      number = task.cgroups ? task.cgroups->inode_number : kTheCgroupNamespace;
      if (task.cgroups) owner = task.cgroups->user;
      in.cgroups = task.cgroups;
      break;
    case NamespaceKind::kNetwork:
      number = kTheNetworkNamespace;
      break;
    case NamespaceKind::kUts:
      number = task.names().inode_number;
      owner = task.names().user;
      in.uts = task.uts;
      break;
    case NamespaceKind::kIpc:
      number = task.sysv().inode_number;
      owner = task.sysv().user;
      in.ipc = task.ipc;
      break;
    case NamespaceKind::kMount:
      number = task.mounts->inode_number;
      owner = task.mounts->user;
      in.mounts = task.mounts;
      break;
    case NamespaceKind::kPid:
    case NamespaceKind::kPidForChildren: {
      PidSpacePtr pids = name.kind == NamespaceKind::kPidForChildren && task.pids_for_children
                             ? task.pids_for_children
                             : task.process->pids;
      // Nobody can enter what has no init.
      if (pids->init == 0) return nullptr;
      return pid_namespace(name, std::move(pids));
    }
  }
  return std::make_shared<NamespaceInode>(name, number, std::move(in), std::move(owner));
}

}  // namespace fluyt::guest
