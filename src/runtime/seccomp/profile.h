#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "runtime/seccomp/table.h"

/// A profile with its words turned into numbers: what compile() starts from.
namespace fluyt::runtime::seccomp {

/// What a filter returns to the kernel: SECCOMP_RET_*, with an errno in the low half.
using Action = uint32_t;

enum class Operator : uint8_t {
  kNotEqual,
  kLess,
  kLessOrEqual,
  kEqual,
  kGreaterOrEqual,
  kGreater,
  kMaskedEqual
};

struct Condition {
  uint8_t index = 0;  // 0 to 5
  Operator op = Operator::kEqual;
  uint64_t value = 0;      // of kMaskedEqual the mask
  uint64_t value_two = 0;  // of kMaskedEqual what is expected behind the mask
  bool operator==(const Condition&) const = default;
};

struct Rule {
  Action action = 0;
  std::vector<Condition> conditions;  // all of them must hold
  std::vector<const Syscall*> calls;
};

struct Profile {
  Action default_action = 0;
  /// Whether calls newer than the profile get ENOSYS instead of the default action.
  bool answers_new_calls_with_enosys = false;
  bool x86 = false;  // architectures besides the native one
  bool x32 = false;
  bool arm = false;
  std::vector<Rule> rules;  // without those that say what the default says whatever the arguments
  /// The highest number that the profile names, whatever it says of it; by Arch, -1 for none.
  std::array<int32_t, kArchs> last = {-1, -1, -1, -1, -1};
  std::vector<std::string> unknown_names;
  uint32_t flags = 0;
  bool notifies = false;
};

Result<Profile> parse_profile(const oci::Seccomp& spec);

}  // namespace fluyt::runtime::seccomp
