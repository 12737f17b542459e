#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"

/// Capabilities (capabilities(7)): names, sets, and putting them on.
namespace fluyt::runtime::caps {

/// Bit n is capability n.
using Set = uint64_t;

struct Sets {
  Set bounding = 0;
  Set effective = 0;
  Set inheritable = 0;
  Set permitted = 0;
  Set ambient = 0;
  bool operator==(const Sets&) const = default;
};

/// The highest capability that this header names: CAP_CHECKPOINT_RESTORE.
inline constexpr int kLastNamed = 40;
/// "CAP_CHOWN" is 0. Upper case, with the prefix, nothing else.
std::optional<int> find_number(std::string_view name);
/// "CAP_CHOWN"; "CAP_41" and so on for those newer than this header.
std::string name_of(int number);
std::vector<std::string> names_of(Set set);
/// "CAP_CHOWN", ... as `features` lists them, up to the kernel's last one.
std::vector<std::string> known_names(int last);

/// The running kernel's highest capability.
Result<int> last_cap();
/// The calling thread's own five sets, up to `last`.
Result<Sets> current(int last);

struct Resolved {
  Sets sets;
  /// What was asked for and cannot be given, with the field: `process.capabilities.ambient[2]:
  /// "CAP_X": ...`. The specification wants a warning, not a failure.
  std::vector<std::string> warnings;
};
/// Pure. Names to sets: unknown names, those above `last` and those not in `holding.bounding` (or
/// for the other sets, that would break the kernel's rules: effective within permitted, ambient
/// within permitted and inheritable) are left out with a warning.
Resolved resolve(const oci::Capabilities& capabilities, const Sets& holding, int last);

/// Step 1, before setuid: drops from the bounding set all that is not in sets.bounding.
Result<> drop_bounding(const Sets& sets, int last);
/// Step 2, before setuid: PR_SET_KEEPCAPS, so that step 3 has something to keep from.
Result<> keep_over_setuid();
/// Step 3, after setuid: clears keepcaps, sets permitted, effective and inheritable by capset(2),
/// then the ambient set.
Result<> apply(const Sets& sets);

}  // namespace fluyt::runtime::caps
