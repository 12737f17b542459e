#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "guest/fs/hostfs.h"
#include "guest/fs/tty.h"
#include "guest/platform/host/broker.h"
#include "guest/platform/host/poller.h"
#include "guest/proc/procfs.h"
#include "guest/sandbox/program.h"
#include "guest/sandbox/sandbox.h"
#include "guest/task/task.h"

/// The containers of a sandbox: one that it was made with, and those that were taken in later.
namespace fluyt::guest {

/// Of the calling process.
Surroundings look_around(sys::FdRef procfs);

/// How files of the host's are shown and made.
struct HostIds {
  HostFs::Ids ids = HostFs::Ids::kAsTheyAre;
  uint32_t uid = 0;
  uint32_t gid = 0;
};

/// What all containers of a sandbox have from it.
class Pod {
 public:
  Pod(Kernel& kernel_of, HostFacts facts_of, std::shared_ptr<host::Poller> poller_of,
      HostIds ids_of, std::shared_ptr<HostFiles> files_of, Surroundings first);

  Kernel& kernel;
  const HostFacts facts;
  const std::shared_ptr<host::Poller> poller;
  const HostIds ids;
  const std::shared_ptr<HostFiles> host_files;

  /// Puts a container into the namespaces of those that are there, as `around` says, or into new
  /// ones, and remembers it for the next. `names` are for a new UTS namespace, `init` says whether
  /// a new PID namespace's first process is spared.
  Errno place(const ContainerPtr& container, const Surroundings& around, const SandboxRequest& as);

 private:
  struct Placed {
    std::weak_ptr<Container> container;
    uint64_t pid_namespace;
    uint64_t ipc_namespace;
    uint64_t uts_namespace;
  };
  std::mutex mutex_;
  std::vector<Placed> placed_;
};

/// A container that is being taken in, or was.
struct Member {
  ContainerPtr container;
  std::shared_ptr<Pts> terminals;
  std::shared_ptr<Terminal> terminal;
  std::shared_ptr<TtyBridge> bridge;
  Prepared first;
};

/// Its processes' first ancestor alone, so that it can be put into a cgroup.
ErrnoOr<ContainerPtr> conceive(Pod& pod, const SandboxRequest& request);

struct MemberParts {
  SandboxRequest request;
  Surroundings around;
  host::Broker::Parts broker;
  std::array<sys::Fd, 3> streams;
};
/// Namespaces, mounts and the first program, which waits for Kernel::start.
Result<Member> take_in(Pod& pod, const ContainerPtr& container, MemberParts parts);

}  // namespace fluyt::guest
