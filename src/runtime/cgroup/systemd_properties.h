#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/cgroup/dbus/message.h"
#include "runtime/cgroup/devices.h"
#include "runtime/cgroup/limits.h"

/// Limits and device rules as properties of a unit: what systemd must know so that it writes the
/// values that are there already whenever it writes its own. Pure.
namespace fluyt::runtime::cgroup::systemd {

struct Property {
  std::string name;
  dbus::Value value;
  bool operator==(const Property&) const = default;
};

/// Of the v1 cpu controller, where quota and period are two files: what those hold that a plan does
/// not write.
struct Present {
  int64_t quota = -1;
  uint64_t period = 100'000;
};

/// What systemd cannot express exactly is changed in the plan, so that file and property agree: a
/// CPU quota is a whole percentage of a CPU, rounded up, at least one task is allowed, and what is
/// idle has no weight.
void fit_to_systemd(std::vector<Write>& plan, const Present& present);

/// The properties behind a plan's writes. Files that systemd of this version never writes
/// (hugetlb.*, rdma.*, io.max) have none; nor has a value that the kernel will refuse.
std::vector<Property> limit_properties(const std::vector<Write>& plan, const Present& present,
                                       int version);

/// By the names of the files that systemd keeps them in: it takes a unit for changed on disk
/// (NeedDaemonReload) when those come in another order.
void sort_properties(std::vector<Property>& properties);

/// Device rules: a list of what is allowed where systemd can say it, else everything, because then
/// the program (v2) that is attached beside systemd's decides alone. Never less than `rules` allow.
std::vector<Property> device_properties(const std::vector<Rule>& rules);

/// "org.systemd.property.NAME" of a container's annotations: values in GVariant's text form (a
/// string in quotes, true, false, a number with a type in front or none, a list of strings);
/// NAMESec in seconds becomes NAMEUSec.
Result<std::vector<Property>> annotation_properties(
    const std::map<std::string, std::string>& annotations);

/// The bits of a list such as "0-2,4", lowest byte first.
Result<std::vector<uint8_t>> cpu_bits(std::string_view list);

}  // namespace fluyt::runtime::cgroup::systemd
