#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/checkpoint/archive.h"
#include "runtime/checkpoint/criu.h"
#include "runtime/checkpoint/criu_message.h"
#include "runtime/container.h"
#include "runtime/plan.h"
#include "runtime/prepare.h"
#include "sys/patience.h"

/// Where a restore takes place: CRIU in a mount namespace of its own that has the container's root
/// and binds in a /tmp of its own, and the host's files read-only around it, so that an archive
/// that has CRIU act outside of the container finds nothing to change; in the container's cgroup
/// and cgroup namespace. All of it goes with CRIU; the host's mounts are never touched.
namespace fluyt::runtime::checkpoint {

struct StageRequest {
  const Plan& plan;
  HostSide& host;
  const Archive& archive;
  Stdio stdio;
  bool new_cgroup_namespace = false;
  sys::Stop stop = {};  // as Criu's
  /// Moves the process that will be CRIU into the container's cgroup.
  std::function<Result<>(pid_t)> enter_cgroup;
};
/// CRIU on its stage, waiting for the request.
Result<Criu> start_on_stage(const StageRequest& request);

/// What the request says of the stage: root, external mounts, inherited descriptors, namespaces.
void describe_stage(const StageRequest& request, CriuOptions& options);

}  // namespace fluyt::runtime::checkpoint
