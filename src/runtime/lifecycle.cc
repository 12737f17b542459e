#include "runtime/cgroup/cgroup.h"
#include "runtime/container.h"

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

Result<> update(const CgroupRecord& cgroup, const oci::Resources& resources) {
  return cgroup::update(cgroup, resources);
}

Result<std::vector<pid_t>> pids(const CgroupRecord& cgroup) { return cgroup::pids(cgroup); }

}  // namespace fluyt::runtime
