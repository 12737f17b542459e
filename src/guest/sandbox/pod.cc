#include "guest/sandbox/pod.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <algorithm>

#include "guest/platform/host/io.h"
#include "guest/sandbox/mounter.h"
#include "guest/sandbox/streams.h"

namespace fluyt::guest {

Surroundings look_around(sys::FdRef procfs) {
  Surroundings out;
  out.mounts = host::host_text(procfs, "self/mountinfo");
  const auto number = [&](const char* path) -> uint64_t {
    struct stat raw;
    return fstatat(procfs.raw(), path, &raw, 0) == 0 ? raw.st_ino : 0;
  };
  out.pid_namespace = number("self/ns/pid");
  out.ipc_namespace = number("self/ns/ipc");
  out.uts_namespace = number("self/ns/uts");
  utsname names{};
  uname(&names);
  out.host_name = names.nodename;
  out.domain_name = names.domainname;
  return out;
}

Pod::Pod(Kernel& kernel_of, HostFacts facts_of, std::shared_ptr<host::Poller> poller_of,
         HostIds ids_of, std::shared_ptr<HostFiles> files_of, Surroundings first)
    : kernel(kernel_of),
      facts(std::move(facts_of)),
      poller(std::move(poller_of)),
      ids(ids_of),
      host_files(std::move(files_of)) {
  placed_.push_back(
      {kernel.container, first.pid_namespace, first.ipc_namespace, first.uts_namespace});
}

Errno Pod::place(const ContainerPtr& container, const Surroundings& around,
                 const SandboxRequest& as) {
  std::lock_guard guard(mutex_);
  std::erase_if(placed_, [](const Placed& each) { return each.container.expired(); });
  // Whose namespace it has; null: nobody's.
  const auto find = [&](uint64_t Placed::* kind, uint64_t number) -> ContainerPtr {
    for (const Placed& each : placed_) {
      ContainerPtr other = each.container.lock();
      if (number != 0 && each.*kind == number && other) return other;
    }
    return nullptr;
  };
  if (const auto other = find(&Placed::pid_namespace, around.pid_namespace)) {
    container->pids = other->pids;
  } else {
    container->pids = GUEST_TRY(kernel.new_pids(kernel.pids));
    container->pids->init_is_spared = as.init_is_spared;
  }
  std::lock_guard lock(kernel.lock);
  if (const auto other = find(&Placed::ipc_namespace, around.ipc_namespace))
    container->ipc = other->ipc;
  else
    container->ipc = GUEST_TRY(kernel.new_sysv());
  if (const auto other = find(&Placed::uts_namespace, around.uts_namespace)) {
    container->uts = other->uts;
  } else {
    container->uts = GUEST_TRY(kernel.new_names(kernel.names));
    container->uts->host = as.host_name.empty() ? around.host_name : as.host_name;
    container->uts->domain = as.domain_name.empty() ? around.domain_name : as.domain_name;
  }
  placed_.push_back({container, around.pid_namespace, around.ipc_namespace, around.uts_namespace});
  return kOk;
}

ErrnoOr<ContainerPtr> conceive(Pod& pod, const SandboxRequest& request) {
  std::shared_ptr<Quota> descriptors;
  if (pod.kernel.descriptors) descriptors = Quota::share_of(pod.kernel.descriptors);
  std::unique_ptr<Platform> branch =
      GUEST_TRY(pod.kernel.platform.branch(request.memory_limit_bytes != 0, descriptors));
  auto container = std::make_shared<Container>(*branch);
  container->descriptors = std::move(descriptors);
  container->own_platform = std::move(branch);
  container->max_tasks = request.max_tasks;
  container->processor_quota_us = request.processor_quota_us;
  container->processor_period_us = request.processor_period_us;
  return container;
}

Result<Member> take_in(Pod& pod, const ContainerPtr& container, MemberParts parts) {
  Kernel& kernel = pod.kernel;
  const SandboxRequest& request = parts.request;
  auto broker = FLUYT_TRY(host::Broker::adopt(std::move(parts.broker)));
  auto host_fs = std::make_shared<HostFs>(
      std::move(broker), pod.host_files,
      request.read_only ? HostFs::Access::kReadOnly : HostFs::Access::kReadWrite,
      HostFs::Sharing::kExclusive, pod.ids.ids, pod.ids.uid, pod.ids.gid, container->descriptors);
  ErrnoOr<InodePtr> root = host_fs->root();
  if (!root.ok()) return Error::from_errno(root.error().value(), "stat of the root");
  ErrnoOr<std::shared_ptr<MountSpace>> mounts =
      kernel.new_mounts(kernel.tree->add_root(std::move(root).value(), "host"));
  if (!mounts.ok()) return Error::from_errno(mounts.error().value(), "a mount namespace");
  container->mounts = std::move(mounts).value();
  if (const Errno placed = pod.place(container, parts.around, request); !placed.ok())
    return Error::from_errno(placed.value(), "a PID namespace");
  const DentryPtr at = container->mounts->root();
  Mounter mounter(kernel, container, at, container->pids ? container->pids : kernel.pids, request,
                  pod.facts);
  if (const Errno mounted = mounter.mount_all(read_host_mounts(parts.around.mounts)); !mounted.ok())
    return Error::from_errno(mounted.value(), "mount at " + mounter.where());
  kernel.tree->lock_mounts(at);
  Member out;
  out.container = container;
  out.terminals = mounter.terminals();
  Streams streams =
      FLUYT_TRY(open_streams(kernel, std::move(parts.streams), pod.poller, out.terminals,
                             request.program.credentials, std::make_shared<HostTerminal>()));
  if (const Errno set = mounter.set_console(streams.files, streams.terminal != nullptr); !set.ok())
    return Error::from_errno(set.value(), mounter.where());
  out.terminal = streams.terminal;
  out.bridge = streams.bridge;
  out.first = FLUYT_TRY(
      prepare_program(kernel, container, request.program, std::move(streams.files), out.terminal));
  return out;
}

}  // namespace fluyt::guest
