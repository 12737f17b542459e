#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace fluyt::spec {

/// Which namespaces the sandbox has of its own.
struct OwnNamespaces {
  bool network = false;
  bool ipc = false;
  bool user = false;
};

/// The sysctls of a sandbox, to be set in its own namespaces: those asked for, in dotted spelling,
/// and the defaults that containers expect of a network of their own (ports from 0 and ping for
/// everybody). kInvalidArgument for one that would reach the host: not namespaced, or of a
/// namespace that is the host's (CVE-2022-0532); or whose name or value could be read as something
/// else (CVE-2022-0811: '+', '=', control characters).
Result<std::map<std::string, std::string>> sandbox_sysctls(
    const std::map<std::string, std::string>& asked, const OwnNamespaces& own);

}  // namespace fluyt::spec
