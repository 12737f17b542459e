#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "guest/task/task.h"
#include "guest/vfs/inode.h"

/// namespaces(7): a task's namespaces as files, for /proc/[pid]/ns and setns(2).
namespace fluyt::guest {

enum class NamespaceKind : uint8_t {
  kCgroup,
  kIpc,
  kMount,
  kNetwork,
  kPid,
  kPidForChildren,
  kUser,
  kUts
};
struct NamespaceName {
  NamespaceKind kind;
  std::string_view name;  // in /proc/[pid]/ns
  std::string_view type;  // in the link's text
  uint64_t flag;          // CLONE_NEW*
};
inline constexpr NamespaceName kNamespaces[] = {
    {NamespaceKind::kCgroup, "cgroup", "cgroup", 0x02000000},
    {NamespaceKind::kIpc, "ipc", "ipc", 0x08000000},
    {NamespaceKind::kMount, "mnt", "mnt", 0x00020000},
    {NamespaceKind::kNetwork, "net", "net", 0x40000000},
    {NamespaceKind::kPid, "pid", "pid", 0x20000000},
    {NamespaceKind::kPidForChildren, "pid_for_children", "pid", 0x20000000},
    {NamespaceKind::kUser, "user", "user", 0x10000000},
    {NamespaceKind::kUts, "uts", "uts", 0x04000000},
};

/// What a task can enter; null members: the kernel's first.
struct Namespaces {
  std::shared_ptr<SystemNames> uts;
  std::shared_ptr<SysV> ipc;
  std::shared_ptr<MountSpace> mounts;
  PidSpacePtr pids;
  UserSpacePtr user;
  std::shared_ptr<CgroupSpace> cgroups;
};

/// One of them as a file: it lives as long as that is open.
class NamespaceInode final : public Inode {
 public:
  NamespaceInode(const NamespaceName& of, uint64_t number, Namespaces in, UserSpacePtr belongs_to)
      : name(of), inside(std::move(in)), owner(std::move(belongs_to)), number_(number) {}
  const NamespaceName& name;
  const Namespaces inside;
  const UserSpacePtr owner;  // the user namespace that it belongs to, or lies in; null: the first

  uint32_t type() const override;
  ErrnoOr<Stat> stat() override;
  Errno set_attributes(const SetAttributes&) override { return Errno(EPERM); }
  ErrnoOr<StatfsBuffer> statfs() override;
  ErrnoOr<FilePtr> open(DentryPtr path, int flags) override;
  std::string describe() const;  // "pid:[4026531836]"

 private:
  uint64_t number_;
};

/// Of a task, under Kernel::lock; null: there is none yet.
std::shared_ptr<NamespaceInode> namespace_of(const Task& task, const NamespaceName& name);

/// ioctl_nsfs(2), for who asks. EPERM: what is asked for lies outside what it can see.
ErrnoOr<uint64_t> control_namespace(Task& task, const NamespaceInode& of, uint32_t request,
                                    uint64_t argument);

}  // namespace fluyt::guest
