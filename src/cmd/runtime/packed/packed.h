#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"

namespace fluyt::commands {

/// What an exec needs of a container, in a form that takes no parsing. state.json and config.json
/// stay what counts: this is a copy of parts of them.
struct Packed {
  std::string id;
  pid_t pid = 0;
  uint64_t start_time = 0;
  std::string boot_id;
  std::string bundle;
  std::vector<std::pair<std::string, std::string>> annotations;
  bool no_new_keyring = false;
  runtime::CgroupRecord cgroup;
  std::optional<oci::Process> process;
  /// Namespaces, seccomp, personality, memory policy and RDT; the rest is left out.
  std::optional<oci::Linux> linux_;
};

/// `stamp` says what it is a copy of.
std::string pack(const Packed& packed, std::string_view stamp);
/// Nothing unless `text` is whole, was made by the same form of this code, and of `stamp`.
std::optional<Packed> unpack(std::string_view text, std::string_view stamp);

}  // namespace fluyt::commands
