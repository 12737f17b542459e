#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "runtime/cgroup/cgroup.h"

/// Which devices a container may open: rules as values, for v1 as a list of writes, for v2 as an
/// eBPF program.
namespace fluyt::runtime::cgroup {

/// BPF_DEVCG_ACC_*.
inline constexpr uint32_t kMknod = 1;
inline constexpr uint32_t kRead = 2;
inline constexpr uint32_t kWrite = 4;
inline constexpr uint32_t kAllAccess = kMknod | kRead | kWrite;

struct Rule {
  bool allow = false;
  char type = 'a';                // a c b
  std::optional<uint32_t> major;  // empty: all
  std::optional<uint32_t> minor;
  uint32_t access = kAllAccess;
  bool operator==(const Rule&) const = default;
  bool everything() const { return type == 'a' && !major && !minor && access == kAllAccess; }
};

inline constexpr size_t kMaxRules = 1024;

/// "Deny all" first, then the spec's rules, then what every container has. For update the first and
/// last part are the same: the rules are always whole.
Result<std::vector<Rule>> device_rules(const std::vector<oci::DeviceRule>& asked);

/// What v1 keeps of a list of rules: a default and exceptions from it.
struct LegacyDevices {
  bool allow_by_default = false;
  std::vector<Rule> exceptions;  // allow == !allow_by_default; type c or b
  bool operator==(const LegacyDevices&) const = default;
};
/// kInvalidArgument for a rule that would make a hole in a wildcard, which v1 cannot express.
Result<LegacyDevices> legacy_devices(const std::vector<Rule>& rules);
/// The text of devices.list.
Result<LegacyDevices> parse_devices_list(std::string_view text);

struct DeviceWrite {
  std::string file;   // devices.allow or devices.deny
  std::string value;  // "c 1:3 rwm"
  bool operator==(const DeviceWrite&) const = default;
};
/// The fewest writes from one state to another; no moment in which a device of both is refused,
/// unless the default turns over.
std::vector<DeviceWrite> legacy_device_writes(const LegacyDevices& from, const LegacyDevices& to);

/// An eBPF instruction: the layout of struct bpf_insn on a little-endian host.
struct BpfInstruction {
  uint8_t code = 0;
  uint8_t registers = 0;  // destination in the low half, source in the high half
  int16_t offset = 0;
  int32_t immediate = 0;
  bool operator==(const BpfInstruction&) const = default;
};
/// A BPF_PROG_TYPE_CGROUP_DEVICE program: for each bit of access the last rule that matches
/// decides.
std::vector<BpfInstruction> device_program(const std::vector<Rule>& rules);
/// Attaches it to a v2 cgroup in place of what fluyt attached before.
Result<> attach_device_program(const std::string& directory,
                               const std::vector<BpfInstruction>& program);

/// The whole: v1 where the record has the devices controller, else v2.
Result<> apply_devices(const CgroupRecord& record, const std::vector<oci::DeviceRule>& asked);

}  // namespace fluyt::runtime::cgroup
