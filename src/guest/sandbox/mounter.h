#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "guest/fs/tty.h"
#include "guest/proc/procfs.h"
#include "guest/sandbox/sandbox.h"
#include "guest/task/task.h"

/// A container's tree: what its specification has the guest kernel show, over what the host has.
namespace fluyt::guest {

/// A mount of the host's in the tree that the broker shows.
struct HostMount {
  std::string path;
  std::string type;
  std::string options;
};
/// Of the text of /proc/self/mountinfo.
std::vector<HostMount> read_host_mounts(std::string_view mountinfo);

/// sysfs(5) of the whole sandbox.
InodePtr make_guest_sysfs(Kernel& kernel, const HostFacts& facts,
                          const std::weak_ptr<const Container>& whose_memory);

/// The guest's mounts over the host's. Those of the host that one of the guest's would hide come
/// after it, and what is to be read-only is so once it is filled.
class Mounter {
 public:
  /// In the tree at `root`, for programs of `container`, which see the processes of `pids`.
  Mounter(Kernel& kernel, const ContainerPtr& container, DentryPtr root, PidSpacePtr pids,
          const SandboxRequest& request, const HostFacts& facts);

  Errno mount_all(const std::vector<HostMount>& of_host);
  const std::string& where() const { return where_; }
  /// The last devpts; null when there is none.
  const std::shared_ptr<Pts>& terminals() const { return terminals_; }
  /// /dev/console is the first of these that is a terminal.
  Errno set_console(std::span<const FilePtr> streams, bool has_terminal);

 private:
  bool is_guests(const std::string& path) const;
  bool is_hidden(const std::string& path) const;
  InodePtr make_root(const SandboxMount& mount);
  Errno cover(const std::string& path, bool empty);

  Tree& tree_;
  Kernel& kernel_;
  std::weak_ptr<const Container> container_;
  PidSpacePtr pids_;
  const SandboxRequest& request_;
  const HostFacts& facts_;
  std::shared_ptr<Pts> terminals_;
  WalkFrom from_;
  InodePtr stand_in_;
  std::string where_;
};

}  // namespace fluyt::guest
