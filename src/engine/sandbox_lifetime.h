#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/model.h"

namespace fluyt::engine {

/// The annotation by which a sandbox's caller says that nobody will stop it.
inline constexpr std::string_view kLifetimeAnnotation = "dev.fluyt.sandbox-lifetime";

enum class SandboxLifetime {
  kUntilStopped,       // by its caller; without the annotation
  kContainers,         // "containers": it stops when the last of its containers has ended
  kContainersAndGone,  // "containers-and-gone": then it is removed with them and their logs, too
};
/// kInvalidArgument for another value of the annotation.
Result<SandboxLifetime> lifetime_of(const std::map<std::string, std::string>& annotations);
/// Of a sandbox that was admitted.
SandboxLifetime lifetime_of(const Sandbox& sandbox);

}  // namespace fluyt::engine
