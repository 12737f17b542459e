#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"

/// The limits of a container as a list of writes: computed here without touching anything, carried
/// out by apply() and update().
namespace fluyt::runtime::cgroup {

/// Which controllers there are, and where; and of the present values those that the order of writes
/// depends on.
struct Layout {
  std::string unified;                                      // v2 directory, empty on v1
  std::vector<std::string> unified_controllers;             // enabled there
  std::vector<std::pair<std::string, std::string>> legacy;  // v1 controller to directory
  bool bfq = false;  // the weights of block devices are BFQ's files

  struct Current {
    std::optional<int64_t> memory_limit;  // v1 and v2; -1: none
    std::optional<int64_t> swap_limit;    // v2: of swap alone; -1: none
    std::optional<uint64_t> memory_usage;
    std::string cpu_max;  // v2: "max 100000"
  };
  Current current;
};

/// One write(2) to one file.
struct Write {
  std::string directory;
  std::string file;
  std::string value;
  std::string field;  // of the spec, for errors: "linux.resources.memory.limit"
  /// Files with a line for each device or page size: the first word of the line that `value` sets,
  /// and what takes that line away again.
  std::string key = {};
  std::string reset = {};
  enum class Missing { kError, kFine };
  Missing missing = Missing::kError;  // kFine: a kernel without the file has nothing to limit
  bool operator==(const Write&) const = default;
};

/// A controller that the resources ask for.
struct Need {
  std::string legacy;   // its v1 name; empty: v2 only
  std::string unified;  // its v2 name; empty: v1 only
  std::string field;
};
std::vector<Need> needs(const oci::Resources& resources);

/// Everything but the device rules. A controller that is missing is kFailedPrecondition, a value
/// that the kernel's interface cannot express kInvalidArgument, both naming the field.
Result<std::vector<Write>> plan_limits(const Layout& layout, const oci::Resources& resources);

/// runc's mapping of 2..262144 to 1..10000, through 1024 = 100 (opencontainers/cgroups 0.0.4). 0 is
/// 0: unset.
uint64_t weight_of_shares(uint64_t shares);
/// 10..1000 to 1..10000.
uint64_t io_weight_of(uint16_t weight);

}  // namespace fluyt::runtime::cgroup
