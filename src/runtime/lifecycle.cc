#include <fcntl.h>

#include "runtime/cgroup/cgroup.h"
#include "runtime/container.h"
#include "runtime/resctrl.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::runtime {

Result<> kill_all(const CgroupRecord& cgroup, Deadline deadline) {
  return cgroup::kill_all(cgroup, deadline);
}

Result<> remove_cgroup(const CgroupRecord& cgroup, Deadline deadline) {
  return cgroup::remove(cgroup, deadline);
}

Result<> end_cgroup(const CgroupRecord& cgroup, Deadline deadline) {
  return cgroup::end(cgroup, deadline);
}

Result<> release(const oci::Spec& spec, const std::string& id, const std::string& root_path,
                 uint64_t root_mount) {
  if (root_mount != 0) {
    auto root = sys::open(root_path, O_PATH | O_DIRECTORY);
    if (root.ok() && FLUYT_TRY(sys::mount_id(*root)) == root_mount) {
      FLUYT_TRY(sys::detach_mount(*root));
    }
  }
  if (!spec.linux_ || !spec.linux_->intel_rdt) return {};
  auto resctrl = resctrl::open_mounted();
  // With its last mount go all groups.
  if (!resctrl.ok() && resctrl.error().code() == Code::kUnimplemented) return {};
  FLUYT_TRY_CONTEXT(resctrl::remove(FLUYT_TRY(std::move(resctrl)), *spec.linux_->intel_rdt, id),
                    "linux.intelRdt");
  return {};
}

Result<> update(const CgroupRecord& cgroup, const oci::Resources& resources) {
  return cgroup::update(cgroup, resources);
}

Result<> update_schemata(const oci::IntelRdt& asked, const std::string& id) {
  const sys::Fd resctrl = FLUYT_TRY_CONTEXT(resctrl::open_mounted(), "linux.intelRdt");
  FLUYT_TRY_CONTEXT(resctrl::write_schemata(resctrl, asked, id), "linux.intelRdt");
  return {};
}

Result<std::vector<pid_t>> pids(const CgroupRecord& cgroup) { return cgroup::pids(cgroup); }

}  // namespace fluyt::runtime
