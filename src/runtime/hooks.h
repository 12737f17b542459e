#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "sys/patience.h"

namespace fluyt::runtime {

/// Where hooks run, besides the namespaces of whoever calls.
struct HookPlace {
  /// The working directory: the bundle, and for createContainer the root, as runc has it; "/" where
  /// there is no such folder.
  std::string cwd = "/";
  /// A hook without `env` gets the caller's environment. Not in the container's namespaces: the
  /// first process has nothing left of it.
  enum class Env { kCallers, kNone } env = Env::kCallers;
  /// Ends one that runs, as its timeout does.
  sys::Stop stop = {};
};

/// How long hooks may still take that are run because of a stop, or when one comes.
inline constexpr int64_t kLastHooksMs = 10'000;

/// Runs hooks in order, each with the container's state on its standard input. A hook fails by its
/// exit status, by its timeout, which ends it and all that it started, or by a stop (kCancelled).
/// The first failure is the error.
Result<> run_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind,
                   const std::string& state_json, const HookPlace& place);
/// All of them, whatever fails: what did is returned, for the log. As poststop hooks are run.
std::vector<std::string> run_all_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind,
                                       const std::string& state_json, const HookPlace& place);

}  // namespace fluyt::runtime
