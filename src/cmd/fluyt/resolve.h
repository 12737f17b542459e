#pragma once

#include <string>

#include "base/result.h"
#include "cmd/fluyt/client.h"

namespace fluyt::cli {

/// The label of sandboxes that `fluyt run` makes for one container, which share its end.
inline constexpr const char* kRunLabel = "fluyt.run";

/// What a person named: a whole id, an id prefix that only one object has, a container's name, or
/// "pod/container". Several that fit are an error that lists them.
Result<cri::Container> find_container(Client& client, const std::string& reference);
/// A sandbox, by id, prefix or name.
Result<cri::PodSandbox> find_sandbox(Client& client, const std::string& reference);

/// Whether the sandbox is one of `fluyt run`, and hence goes with its container.
bool is_run_sandbox(const cri::PodSandbox& sandbox);

}  // namespace fluyt::cli
