#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cmd/fluyt/resolve.h"

namespace fluyt::cli {

/// What `stop` and `rm` act on: a container, or a whole pod. A container of `fluyt run` comes with
/// the pod that was made for it.
struct Target {
  std::optional<cri::Container> container;
  std::optional<cri::PodSandbox> sandbox;
};
Result<Target> find_target(Client& client, const std::string& reference);

/// Does `act` for each; prints the references that went well and tells of each that did not. The
/// exit status.
Result<int> for_each_target(Client& client, const std::vector<std::string>& references,
                            const std::function<Result<>(const Target&)>& act);

/// The same of containers alone.
Result<int> for_each_container(Client& client, const std::vector<std::string>& references,
                               const std::function<Result<>(const cri::Container&)>& act);

}  // namespace fluyt::cli
