#include "runtime/caps/caps.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/strings.h"
#include "oci/capability_names.h"
#include "sys/file.h"

namespace fluyt::runtime::caps {

namespace {

using oci::kCapabilityNames;
static_assert(kLastNamed == CAP_CHECKPOINT_RESTORE && kCapabilityNames.size() == kLastNamed + 1);
static_assert(kCapabilityNames[CAP_SYS_ADMIN] == "CAP_SYS_ADMIN" &&
              kCapabilityNames[CAP_BPF] == "CAP_BPF");

constexpr int kMaxBits = 64;

constexpr Set bit(int number) { return Set{1} << static_cast<unsigned>(number); }

Result<> call(int option, unsigned long a, unsigned long b, const char* shown) {
  if (prctl(option, a, b, 0, 0) == 0) return {};
  return Error::from_errno(errno, cat("prctl(", shown, ", ", a, ", ", b, ")"));
}

struct UserCaps {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> data{};
};

constexpr uint32_t low(Set set) { return static_cast<uint32_t>(set); }
constexpr uint32_t high(Set set) { return static_cast<uint32_t>(set >> 32U); }
constexpr Set whole(uint32_t lower, uint32_t upper) { return Set{upper} << 32U | lower; }

/// Turns one list of names into a set; what cannot be had becomes a warning.
class Resolver {
 public:
  explicit Resolver(int last) : last_(last) {}

  Set names(const std::vector<std::string>& list, std::string_view field) {
    Set out = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      const auto number = find_number(list[i]);
      if (!number) {
        warn(field, i, list[i], "no capability that fluyt knows");
      } else if (*number > last_) {
        warn(field, i, list[i], "newer than the running kernel");
      } else {
        out |= bit(*number);
      }
    }
    return out;
  }
  /// `set` without what is not in `allowed`, told once a capability.
  Set within(Set set, Set allowed, std::string_view field, std::string_view why,
             std::string_view what = "") {
    for (const std::string& name : names_of(set & ~allowed)) {
      warnings_.push_back(cat("process.capabilities.", field, ": ", what, name, ": ", why));
    }
    return set & allowed;
  }
  std::vector<std::string> take_warnings() { return std::move(warnings_); }

 private:
  void warn(std::string_view field, size_t index, std::string_view name, std::string_view why) {
    warnings_.push_back(
        cat("process.capabilities.", field, "[", index, "]: ", quote(name), ": ", why));
  }
  int last_;
  std::vector<std::string> warnings_;
};

}  // namespace

std::optional<int> find_number(std::string_view name) {
  for (size_t i = 0; i < kCapabilityNames.size(); ++i) {
    if (kCapabilityNames[i] == name) return static_cast<int>(i);
  }
  return std::nullopt;
}

std::string name_of(int number) {
  if (number >= 0 && number <= kLastNamed)
    return std::string(kCapabilityNames[static_cast<size_t>(number)]);
  return cat("CAP_", number);
}

std::vector<std::string> names_of(Set set) {
  std::vector<std::string> out;
  for (int i = 0; i < kMaxBits; ++i) {
    if ((set & bit(i)) != 0) out.push_back(name_of(i));
  }
  return out;
}

std::vector<std::string> known_names(int last) {
  std::vector<std::string> out;
  for (int i = 0; i <= last && i <= kLastNamed; ++i) out.push_back(name_of(i));
  return out;
}

Result<int> last_cap() {
  // The kernel answers for those it knows and refuses the others: halved until one is left.
  auto known = [](int cap) { return prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; };
  if (!known(0)) return Error::from_errno(errno, "prctl(PR_CAPBSET_READ, 0)");
  int last = 0;
  for (int beyond = kMaxBits; beyond - last > 1;) {
    const int middle = (last + beyond) / 2;
    (known(middle) ? last : beyond) = middle;
  }
  return last;
}

Result<Sets> current(int last) {
  UserCaps caps;
  if (syscall(SYS_capget, &caps.header, caps.data.data()) != 0)
    return Error::from_errno(errno, "capget()");
  Sets out;
  out.effective = whole(caps.data[0].effective, caps.data[1].effective);
  out.permitted = whole(caps.data[0].permitted, caps.data[1].permitted);
  out.inheritable = whole(caps.data[0].inheritable, caps.data[1].inheritable);
  for (int i = 0; i <= last; ++i) {
    if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1) out.bounding |= bit(i);
    // An ambient one is permitted and inheritable (capabilities(7)).
    const bool possible = (out.permitted & out.inheritable & bit(i)) != 0;
    if (possible && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1)
      out.ambient |= bit(i);
  }
  return out;
}

Resolved resolve(const oci::Capabilities& capabilities, const Sets& holding, int last) {
  Resolver resolver(last);
  Sets sets;
  sets.bounding =
      resolver.within(resolver.names(capabilities.bounding, "bounding"), holding.bounding,
                      "bounding", "not in the bounding set of the runtime");
  sets.permitted = resolver.within(resolver.names(capabilities.permitted, "permitted"),
                                   holding.permitted, "permitted", "not held by the runtime");
  sets.effective =
      resolver.within(resolver.names(capabilities.effective, "effective"), sets.permitted,
                      "effective", "not in process.capabilities.permitted");
  // capset(2) takes an inheritable one that is in the old inheritable set or in the bounding set.
  sets.inheritable = resolver.within(resolver.names(capabilities.inheritable, "inheritable"),
                                     sets.bounding | holding.inheritable, "inheritable",
                                     "not in process.capabilities.bounding");
  sets.ambient = resolver.within(resolver.names(capabilities.ambient, "ambient"),
                                 sets.permitted & sets.inheritable, "ambient",
                                 "not in both process.capabilities.permitted and inheritable",
                                 "can't raise ambient capability ");
  return {.sets = sets, .warnings = resolver.take_warnings()};
}

Result<> drop_bounding(const Sets& sets, int last) {
  for (int i = 0; i <= last; ++i) {
    if ((sets.bounding & bit(i)) != 0) continue;
    FLUYT_TRY(call(PR_CAPBSET_DROP, static_cast<unsigned long>(i), 0, "PR_CAPBSET_DROP"));
  }
  return {};
}

Result<> keep_over_setuid() { return call(PR_SET_KEEPCAPS, 1, 0, "PR_SET_KEEPCAPS"); }

Result<> apply(const Sets& sets) {
  FLUYT_TRY(call(PR_SET_KEEPCAPS, 0, 0, "PR_SET_KEEPCAPS"));
  UserCaps caps;
  caps.data[0] = {.effective = low(sets.effective),
                  .permitted = low(sets.permitted),
                  .inheritable = low(sets.inheritable)};
  caps.data[1] = {.effective = high(sets.effective),
                  .permitted = high(sets.permitted),
                  .inheritable = high(sets.inheritable)};
  if (syscall(SYS_capset, &caps.header, caps.data.data()) != 0)
    return Error::from_errno(errno, "capset()");
  // What the caller had is not passed on: only what the configuration lists.
  FLUYT_TRY(call(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, "PR_CAP_AMBIENT"));
  for (int i = 0; i < kMaxBits; ++i) {
    if ((sets.ambient & bit(i)) == 0) continue;
    FLUYT_TRY(call(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, static_cast<unsigned long>(i),
                   "PR_CAP_AMBIENT"));
  }
  return {};
}

}  // namespace fluyt::runtime::caps
