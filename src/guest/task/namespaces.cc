#include "guest/task/namespaces.h"

#include <sys/stat.h>

#include "guest/vfs/file.h"

namespace fluyt::guest {

namespace {

// Those that all programs are in, of which there is one.
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

std::shared_ptr<NamespaceInode> namespace_of(const Task& task, const NamespaceName& name) {
  uint64_t number = 0;
  Namespaces in;
  switch (name.kind) {
    case NamespaceKind::kUser:
      number = kTheUserNamespace;
      break;
    case NamespaceKind::kCgroup:
      number = kTheCgroupNamespace;
      break;
    case NamespaceKind::kNetwork:
      number = kTheNetworkNamespace;
      break;
    case NamespaceKind::kUts:
      number = task.names().inode_number;
      in.uts = task.uts;
      break;
    case NamespaceKind::kIpc:
      number = task.sysv().inode_number;
      in.ipc = task.ipc;
      break;
    case NamespaceKind::kMount:
      number = task.mounts->inode_number;
      in.mounts = task.mounts;
      break;
    case NamespaceKind::kPid:
    case NamespaceKind::kPidForChildren:
      in.pids = name.kind == NamespaceKind::kPidForChildren && task.pids_for_children
                    ? task.pids_for_children
                    : task.process->pids;
      // Nobody can enter what has no init.
      if (in.pids->init == 0) return nullptr;
      number = in.pids->inode_number;
      break;
  }
  return std::make_shared<NamespaceInode>(name, number, std::move(in));
}

}  // namespace fluyt::guest
