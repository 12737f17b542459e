#include <algorithm>
#include <cerrno>

#include "base/strings.h"
#include "base/trace.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/devices.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/limits.h"
#include "runtime/cgroup/systemd.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

std::optional<int64_t> read_number(const std::string& directory, std::string_view file) {
  const auto text = read_value(directory, file);
  if (!text.ok()) return std::nullopt;
  if (trim(*text) == "max") return -1;
  return parse_number<int64_t>(trim(*text));
}

// v1 shows "no limit" as the highest multiple of a page.
std::optional<int64_t> read_legacy_limit(const std::string& directory) {
  const auto value = read_number(directory, "memory.limit_in_bytes");
  if (value && *value >= INT64_MAX - (64 << 10)) return -1;
  return value;
}

void read_current(Layout& layout, const CgroupRecord& record, const oci::Resources& resources) {
  const std::string* legacy = find_legacy(record, "memory");
  if (resources.memory && (resources.memory->limit || resources.memory->swap)) {
    layout.current.memory_limit =
        legacy != nullptr ? read_legacy_limit(*legacy) : read_number(layout.unified, "memory.max");
    if (legacy == nullptr)
      layout.current.swap_limit = read_number(layout.unified, "memory.swap.max");
  }
  if (resources.memory && resources.memory->check_before_update.value_or(false)) {
    const auto usage = legacy != nullptr ? read_number(*legacy, "memory.usage_in_bytes")
                                         : read_number(layout.unified, "memory.current");
    if (usage && *usage >= 0) layout.current.memory_usage = static_cast<uint64_t>(*usage);
  }
  if (resources.cpu && find_legacy(record, "cpu") == nullptr && !layout.unified.empty()) {
    auto text = read_value(layout.unified, "cpu.max");
    if (text.ok()) layout.current.cpu_max = std::move(*text);
  }
  if (resources.block_io) {
    const std::string* io = find_legacy(record, "blkio");
    layout.bfq = io != nullptr
                     ? sys::exists(*io + "/blkio.bfq.weight")
                     : !layout.unified.empty() && sys::exists(layout.unified + "/io.bfq.weight");
  }
}

Result<Layout> layout_of(const CgroupRecord& record, const oci::Resources& resources) {
  Layout layout{.unified = record.unified, .unified_controllers = {}, .legacy = record.legacy};
  if (!record.unified.empty()) {
    const std::string text = FLUYT_TRY(read_value(record.unified, "cgroup.controllers"));
    for (const std::string_view name : split_words(trim(text)))
      layout.unified_controllers.emplace_back(name);
  }
  read_current(layout, record, resources);
  return layout;
}

std::string usage_of(const Write& write) {
  const bool legacy =
      write.file == "memory.limit_in_bytes" || write.file == "memory.memsw.limit_in_bytes";
  if (!legacy && write.file != "memory.max") return {};
  const auto usage =
      read_number(write.directory, legacy ? "memory.usage_in_bytes" : "memory.current");
  return usage ? cat(" (the cgroup uses ", *usage, " bytes now)") : std::string();
}

Result<> put(const Write& write) {
  // An empty value clears the file: the kernel sees that only with something to read.
  const std::string_view value =
      write.value.empty() ? std::string_view("\n") : std::string_view(write.value);
  auto result = sys::write_file(sys::kCwd, cat(write.directory, "/", write.file), value);
  if (result.ok()) return result;
  if (write.missing == Write::Missing::kFine && result.error().errno_value() == ENOENT) return {};
  const std::string field = cat(write.field, usage_of(write));
  return std::move(result).error().add_context(field);
}

// What stands in the way now may be gone after the next write (a burst above the old quota, a sum
// of memory and swap below the old limit).
bool worth_another_try(const Error& error) {
  return error.errno_value() == EINVAL || error.errno_value() == EBUSY;
}

/// Writes everything. The first error that stays one is it.
Result<> put_all(const std::vector<Write>& plan) {
  std::vector<const Write*> todo;
  todo.reserve(plan.size());
  for (const Write& write : plan) todo.push_back(&write);
  while (!todo.empty()) {
    std::vector<const Write*> again;
    std::optional<Error> first;
    for (const Write* write : todo) {
      auto result = put(*write);
      if (result.ok()) continue;
      if (!worth_another_try(result.error())) return std::move(result).error();
      if (!first) first = std::move(result).error();
      again.push_back(write);
    }
    if (again.size() == todo.size() || again.empty()) {
      if (first) return std::move(*first);
      return {};
    }
    todo = std::move(again);
  }
  return {};
}

/// What a file held before we wrote it.
struct Old {
  const Write* write;
  std::vector<std::string> values;
};

Result<Old> remember(const Write& write) {
  Old old{.write = &write, .values = {}};
  auto text = read_value(write.directory, write.file);
  if (!text.ok()) {
    if (write.missing == Write::Missing::kFine && text.error().code() == Code::kNotFound)
      return old;
    return std::move(text).error().add_context(write.field);
  }
  for (const std::string_view line : split(trim(*text), '\n')) {
    if (write.file == "memory.oom_control") {
      if (line.starts_with("oom_kill_disable ")) old.values.emplace_back(line.substr(17));
    } else if (write.key.empty() || line.starts_with(write.key + " ")) {
      old.values.emplace_back(line);
    }
  }
  if (old.values.empty() && !write.reset.empty()) old.values.push_back(write.reset);
  return old;
}

// Of v1's cpu controller.
systemd::Present present_quota(const CgroupRecord& record) {
  systemd::Present out;
  const std::string* cpu = find_legacy(record, "cpu");
  if (cpu == nullptr) return out;
  out.quota = read_number(*cpu, "cpu.cfs_quota_us").value_or(-1);
  const int64_t period = read_number(*cpu, "cpu.cfs_period_us").value_or(0);
  if (period > 0) out.period = static_cast<uint64_t>(period);
  return out;
}

/// The other place where limits are kept, when systemd has a unit for the cgroup.
class Unit {
 public:
  static Result<Unit> of(const CgroupRecord& record) {
    Unit unit;
    unit.unit_ = record.unit;
    if (!record.unit) return unit;
    unit.present_ = present_quota(record);
    const trace::Span span(systemd::kSpan);
    unit.manager_ = FLUYT_TRY(systemd::Manager::connect(systemd::instance_of(*record.unit),
                                                        Deadline::after_ms(systemd::kPatienceMs)));
    return unit;
  }
  void fit(std::vector<Write>& plan) const {
    if (unit_) systemd::fit_to_systemd(plan, present_);
  }
  Result<> set(const std::vector<Write>& plan, const std::vector<Rule>& rules) {
    if (!unit_) return {};
    auto properties = systemd::limit_properties(plan, present_, manager_->version());
    if (!rules.empty()) {
      for (auto& one : systemd::device_properties(rules)) properties.push_back(std::move(one));
    }
    systemd::sort_properties(properties);
    const trace::Span span(systemd::kSpan);
    FLUYT_TRY_CONTEXT(
        manager_->set_properties(*unit_, properties, Deadline::after_ms(systemd::kPatienceMs)),
        "linux.resources");
    return {};
  }

 private:
  std::optional<SystemdUnit> unit_;
  std::optional<systemd::Manager> manager_;
  systemd::Present present_;
};

// What the old values are as writes, the last one first.
std::vector<Write> writes_of(const std::vector<Old>& olds) {
  std::vector<Write> plan;
  for (auto old = olds.rbegin(); old != olds.rend(); ++old) {
    for (const std::string& value : old->values) {
      Write write = *old->write;
      write.value = value;
      plan.push_back(std::move(write));
    }
  }
  return plan;
}

void put_back(const std::vector<Old>& olds, Unit& unit) {
  const std::vector<Write> plan = writes_of(olds);
  constexpr std::string_view kWhy =
      "the values held before, so that the first error is the one to tell";
  unit.set(plan, {}).ignore(kWhy);
  put_all(plan).ignore(kWhy);
}

}  // namespace

Result<> apply(const CgroupRecord& record, const oci::Resources& resources) {
  const Layout layout = FLUYT_TRY(layout_of(record, resources));
  std::vector<Write> plan = FLUYT_TRY(plan_limits(layout, resources));
  Unit unit = FLUYT_TRY(Unit::of(record));
  unit.fit(plan);
  FLUYT_TRY(unit.set(plan, FLUYT_TRY(device_rules(resources.devices))));
  FLUYT_TRY(put_all(plan));
  return apply_devices(record, resources.devices);
}

Result<> update(const CgroupRecord& record, const oci::Resources& resources) {
  const Layout layout = FLUYT_TRY(layout_of(record, resources));
  std::vector<Write> plan = FLUYT_TRY(plan_limits(layout, resources));
  // Wrong rules are found before anything is written.
  std::vector<Rule> rules;
  if (!resources.devices.empty()) {
    rules = FLUYT_TRY(device_rules(resources.devices));
    if (find_legacy(record, "devices") != nullptr) FLUYT_TRY(legacy_devices(rules));
  }
  Unit unit = FLUYT_TRY(Unit::of(record));
  unit.fit(plan);
  // All of them before systemd writes the first.
  std::vector<Old> olds;
  olds.reserve(plan.size());
  for (const Write& write : plan) olds.push_back(FLUYT_TRY(remember(write)));
  auto written = unit.set(plan, {});
  if (!written.ok()) return written;
  written = put_all(plan);
  // Last, for what rules there were before nobody can tell.
  if (written.ok() && !rules.empty()) written = apply_devices(record, resources.devices);
  // What the kernel has refused systemd must not write again at its next reload.
  if (written.ok() && !rules.empty()) written = unit.set({}, rules);
  if (!written.ok()) put_back(olds, unit);
  return written;
}

std::string left_out(const CgroupRecord& record, const oci::Resources& resources) {
  if (!record.unit) return {};
  const auto in_files = [&](const char* file) {
    const auto found = resources.unified.find(file);
    return found == resources.unified.end() ? std::string() : std::string(trim(found->second));
  };
  const bool idle = in_files("cpu.idle") == "1" ||
                    (in_files("cpu.idle").empty() && resources.cpu && resources.cpu->idle == 1);
  const bool weight =
      !in_files("cpu.weight").empty() || (resources.cpu && resources.cpu->shares.value_or(0) != 0);
  if (!idle || !weight) return {};
  return "linux.resources.cpu: unable to apply both idle and shares (a weight) to a systemd unit: "
         "idle it is";
}

}  // namespace fluyt::runtime::cgroup
