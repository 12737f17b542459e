#include "guest/proc/cgroupfs.h"

#include <set>
#include <utility>

#include "guest/proc/nodes.h"

namespace fluyt::guest {
namespace {

constexpr NodeSystem kCgroup{
    .magic = 0x63677270, .device = make_device(0, 29), .failure = NodeSystem::Failure::kAtRead};
constexpr uint64_t kUsualPeriodUs = 100'000;

using ContainerView = std::shared_ptr<const Container>;

std::string line(uint64_t value) { return std::to_string(value) + "\n"; }
std::string or_max(uint64_t value, bool limited) { return limited ? line(value) : "max\n"; }

std::string processor_limit(const Container& of) {
  const uint64_t quota = of.processor_quota_us;
  const uint64_t period = of.processor_period_us;
  return (quota == 0 ? "max" : std::to_string(quota)) + " " +
         line(period == 0 ? kUsualPeriodUs : period);
}

uint64_t memory_used(const Container& of) {
  const host::MemoryFigures now = of.memory.read();
  return now.total - std::min(now.available, now.total);
}

std::string memory_stat(const Container& of) {
  // What of it is what the host alone knows.
  std::string out;
  print(out, "anon %lu\nfile 0\nkernel 0\nshmem 0\ninactive_anon 0\nactive_anon %lu\n",
        memory_used(of), memory_used(of));
  out += "inactive_file 0\nactive_file 0\nunevictable 0\nslab 0\npgfault 0\npgmajfault 0\n";
  return out;
}

/// Of all containers of the kernel, which is what is known.
std::string processor_stat(Kernel& kernel) {
  std::lock_guard lock(kernel.lock);
  const Usage used = kernel.usage();
  constexpr int64_t kMicrosecond = 1000;
  std::string out;
  print(out, "usage_usec %ld\nuser_usec %ld\nsystem_usec %ld\n",
        (used.user_ns + used.system_ns) / kMicrosecond, used.user_ns / kMicrosecond,
        used.system_ns / kMicrosecond);
  return out + "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n";
}

}  // namespace

InodePtr make_cgroupfs(Kernel& kernel, const std::weak_ptr<const Container>& container,
                       const PidSpacePtr& pids) {
  uint64_t next = 1;
  auto root = std::make_shared<DirectoryNode>(kCgroup, next, 0555);
  const auto text = [&](const char* name, auto make) {
    const uint64_t number = ++next;
    root->add(name, 8, [container, number, make] {
      return std::make_shared<TextNode>(
          kCgroup, 0444, number,
          [container, make]() -> ErrnoOr<std::string> {
            const ContainerView of = container.lock();
            if (!of) return Errno(ENODEV);
            return make(*of);
          },
          nullptr);
    });
  };
  const auto is = [&](const char* name, const char* value) {
    text(name, [value](const Container&) { return std::string(value); });
  };
  // Threads that have no number where this is seen are not listed.
  const auto members = [&](const char* name, bool threads) {
    text(name, [&kernel, pids, threads](const Container& of) {
      std::set<int32_t> numbers;
      std::lock_guard lock(kernel.lock);
      for (const auto& [tid, task] : kernel.tasks)
        if (task->container.get() == &of)
          numbers.insert(pids->number_of(threads ? tid : task->process->pid));
      numbers.erase(0);
      std::string out;
      for (const int32_t number : numbers) out += line(static_cast<uint64_t>(number));
      return out;
    });
  };
  is("cgroup.controllers", "cpuset cpu memory pids\n");
  is("cgroup.events", "populated 1\nfrozen 0\n");
  is("cgroup.max.depth", "max\n");
  is("cgroup.max.descendants", "max\n");
  members("cgroup.procs", false);
  is("cgroup.stat", "nr_descendants 0\nnr_dying_descendants 0\n");
  is("cgroup.subtree_control", "\n");
  members("cgroup.threads", true);
  is("cgroup.type", "domain\n");
  text("cpu.max", processor_limit);
  is("cpu.max.burst", "0\n");
  text("cpu.stat", [&kernel](const Container&) { return processor_stat(kernel); });
  is("cpu.weight", "100\n");
  const auto all_of = [](const Container& of) {
    const unsigned count = of.processors();
    return count == 1 ? std::string("0\n") : "0-" + line(count - 1);
  };
  is("cpuset.cpus", "\n");
  text("cpuset.cpus.effective", all_of);
  is("cpuset.mems", "\n");
  is("cpuset.mems.effective", "0\n");
  text("memory.current", [](const Container& of) { return line(memory_used(of)); });
  is("memory.events", "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n");
  is("memory.high", "max\n");
  is("memory.low", "0\n");
  text("memory.max", [](const Container& of) {
    const host::MemoryFigures now = of.memory.read();
    return or_max(now.total, of.memory.limits());
  });
  is("memory.min", "0\n");
  text("memory.stat", memory_stat);
  is("memory.swap.current", "0\n");
  is("memory.swap.max", "0\n");
  const auto counted = [&kernel](auto member) {
    return [&kernel, member](const Container& of) {
      std::lock_guard lock(kernel.lock);
      return line(of.*member);
    };
  };
  text("pids.current", counted(&Container::tasks));
  is("pids.events", "max 0\n");
  text("pids.max", counted(&Container::max_tasks));
  return root;
}

}  // namespace fluyt::guest
