#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "cmd/fluyt/client.h"

namespace fluyt::cli {

/// What a person asked of `fluyt run`, as typed.
struct RunOptions {
  std::string name;
  bool detached = false;
  bool interactive = false;
  bool tty = false;
  bool remove = false;
  bool privileged = false;
  bool readonly = false;
  std::vector<std::string> envs;
  std::vector<std::string> volumes;
  std::vector<std::string> ports;
  std::vector<std::string> labels;
  std::vector<std::string> cap_add;
  std::vector<std::string> cap_drop;
  std::string workdir;
  std::string hostname;
  std::string runtime;  // a handler's name; empty: fluytd's default
  std::string network = "pod";
  std::string user;
  std::string memory;
  std::string cpus;
  std::string entrypoint;
  std::string image;
  std::vector<std::string> command;
};

/// The same in CRI's words: a sandbox for one container, and that container.
struct RunPlan {
  cri::PodSandboxConfig sandbox;
  cri::ContainerConfig container;
};
/// Pure but for --env KEY, which looks at our environment. Every error is about usage and names the
/// option. `log_folder` is where the container will log. `mark` is in its labels, by which it is
/// known as this call's.
Result<RunPlan> plan_run(const RunOptions& options, const std::string& mark,
                         const std::string& log_folder, const std::string& cwd);

}  // namespace fluyt::cli
