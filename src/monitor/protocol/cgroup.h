#pragma once

/// A container's, a pod init's or a monitor's cgroup in its record, as runtime::CgroupRecord, which
/// this layer must not know and takes as `Cgroup`.
namespace fluyt::monitor {

template <class Cgroup, class Record>
Cgroup cgroup_in(const Record& record) {
  Cgroup cgroup;
  cgroup.unified = record.cgroup_unified;
  cgroup.legacy = record.cgroup_legacy;
  if (!record.cgroup_unit.empty()) {
    auto& unit = cgroup.unit.emplace();
    unit.name = record.cgroup_unit;
    unit.slice = record.cgroup_slice;
  }
  return cgroup;
}

template <class Cgroup, class Record>
void put_cgroup(const Cgroup& cgroup, Record& record) {
  record.cgroup_unified = cgroup.unified;
  record.cgroup_legacy = cgroup.legacy;
  record.cgroup_unit.clear();
  record.cgroup_slice.clear();
  if (!cgroup.unit) return;
  record.cgroup_unit = cgroup.unit->name;
  record.cgroup_slice = cgroup.unit->slice;
}

}  // namespace fluyt::monitor
