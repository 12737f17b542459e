#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "monitor/process/workers.h"
#include "monitor/protocol/messages.h"
#include "monitor/protocol/state_folder.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace fluyt::monitor {

/// The uid and gid of pod inits: none that an image uses, so that no container shares it.
inline constexpr uint32_t kPodInitId = 2'000'131'071;

/// What make_sandbox() made, as a worker tells it.
struct Sandbox {
  SandboxNamespaces namespaces;
  std::optional<sys::Process> pod_init;
  ProcessRecord pod_init_record;
};

/// Refuses what would reach beyond the sandbox: sysctls that its namespaces do not hold, a host
/// name that the kernel does not take.
Result<> check_sandbox(const SandboxRequest& request);

/// In a worker: unshares what is asked for, sets it up and pins the namespaces to files below
/// `state_dir`. A pod init is executed from `pod_init_program`. On error nothing is left.
Result<WorkerReply> make_sandbox(const SandboxRequest& request, const std::string& state_dir,
                                 sys::FdRef pod_init_program);
/// Reads make_sandbox()'s reply.
Result<Sandbox> sandbox_from(WorkerReply reply, const SandboxRequest& request,
                             const std::string& state_dir);

/// Takes the namespaces' mounts away again. What is not mounted is fine.
Result<> unmount_namespaces(const std::string& state_dir);

}  // namespace fluyt::monitor
