#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "sys/fd.h"

/// linux.intelRdt (config-linux.md, "IntelRdt"): cache and memory bandwidth of a container by the
/// resctrl file system. What is made is named by the container's id, so that removing needs no
/// record: the class when no closID was given, and the monitoring group. A class that others named
/// stays.
namespace fluyt::runtime::resctrl {

/// Where resctrl is mounted, verified: /sys/fs/resctrl, else wherever mountinfo says.
/// kUnimplemented when nowhere.
Result<sys::Fd> open_mounted();

/// The groups of one container, as descriptors: processes are added to them.
struct Groups {
  sys::Fd control;     // the class
  sys::Fd monitoring;  // invalid unless enableMonitoring
};
/// Makes or finds the class, checks or writes its schemata, makes the monitoring group. `root` is
/// the mount. On an error nothing of ours is left.
Result<Groups> make(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id);
/// Finds what make() made, for one more process of a running container.
Result<Groups> find(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id);
/// Children that are born later follow by themselves.
Result<> add(const Groups& groups, pid_t pid);
/// Writes new schemata of a container's class: what `update` changes.
Result<> write_schemata(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id);
/// Removes what make() made. Absent is success.
Result<> remove(sys::FdRef root, const oci::IntelRdt& asked, const std::string& id);

/// The lines to write, in the specification's order. Pure.
std::string schemata_text(const oci::IntelRdt& asked);
/// Whether the schemata of an existing class say what `asked` does: the cache ids that a line names
/// have the value that it gives, whatever zeros, spaces and order. Pure.
bool schemata_match(const std::string& present, const std::string& asked);

}  // namespace fluyt::runtime::resctrl
