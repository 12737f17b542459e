#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "host/probe.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/devices.h"
#include "runtime/cgroup/systemd.h"
#include "sys/clone.h"
#include "sys/file.h"

namespace fluyt::host {

namespace {

namespace cgroup = runtime::cgroup;
using cgroup::Host;

constexpr int64_t kPatienceMs = 5'000;

std::string mode_of(const Host& host) {
  if (host.hybrid()) return "v1 with a v2 hierarchy beside it";
  return host.unified.empty() ? "v1" : "v2";
}

bool offers(const Host& host, std::string_view name, std::string_view legacy_name) {
  return std::ranges::find(host.controllers, name) != host.controllers.end() ||
         host.find_legacy(legacy_name) != nullptr;
}

struct Controller {
  std::string_view name;         // of v2
  std::string_view legacy_name;  // of v1
  bool needed;
};
constexpr std::array kControllers{
    Controller{"cpu", "cpu", true},       Controller{"cpuset", "cpuset", true},
    Controller{"memory", "memory", true}, Controller{"pids", "pids", true},
    Controller{"io", "blkio", false},     Controller{"hugetlb", "hugetlb", false},
    Controller{"rdma", "rdma", false},
};

void examine_controllers(const Host& host, Findings& findings) {
  std::vector<std::string> there;
  std::vector<std::string> needed;
  std::vector<std::string> others;
  for (const Controller& controller : kControllers) {
    if (offers(host, controller.name, controller.legacy_name)) {
      there.emplace_back(controller.name);
    } else {
      (controller.needed ? needed : others).emplace_back(controller.name);
    }
  }
  std::vector<std::string> lacks = needed;
  lacks.insert(lacks.end(), others.begin(), others.end());
  const std::string found =
      cat(join(there, ", "), lacks.empty() ? "" : cat("; not ", join(lacks, ", ")));
  const Has has = !needed.empty() ? Has::kNo : others.empty() ? Has::kYes : Has::kPartly;
  const bool memory = std::ranges::find(needed, "memory") != needed.end();
  findings.add(
      {.name = "controllers",
       .need = Need::kPods,
       .loses = cat("limits of ", join(lacks, ", "), " are refused"),
       .remedy = memory            ? "boot with cgroup_enable=memory"
                 : !needed.empty() ? "a kernel with these, or mount their v1 hierarchies"
                                   : "a kernel with these controllers, if pods ask for them"},
      has, found);
}

// Makes a cgroup, has `use` do something with it in a child, and removes it, whatever that did.
Result<std::string> with_cgroup(
    const Host& host, const std::function<Result<std::string>(const runtime::CgroupRecord&)>& use) {
  const std::string id = cat("fluyt-check-", ::getpid());
  const runtime::CgroupRecord record = FLUYT_TRY(cgroup::locate(host, "/" + id, id));
  auto tried = in_child([&]() -> Result<std::string> {
    FLUYT_TRY(cgroup::make(host, record, {}));
    return use(record);
  });
  auto gone = cgroup::end(record, Deadline::after_ms(kPatienceMs));
  if (tried.ok() && !gone.ok()) return std::move(gone).error();
  return tried;
}

// A process in it, born there where there is a v2 hierarchy.
Result<sys::Process> inhabit(const runtime::CgroupRecord& record) {
  sys::CloneRequest request;
  const cgroup::Ways ways = FLUYT_TRY(cgroup::open_ways(record));
  if (ways.unified.valid()) request.cgroup = ways.unified;
  auto child = FLUYT_TRY(sys::clone_process(request));
  if (!child) {
    // Until it is ended, with everything in the cgroup, or whoever made it is.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!cgroup::enter(ways.tasks).ok()) ::_exit(1);
    while (true) ::pause();
  }
  return std::move(*child);
}

Result<std::string> live_and_end(const runtime::CgroupRecord& record) {
  const sys::Process process = FLUYT_TRY(inhabit(record));
  const bool in_v2 = !record.unified.empty();
  const bool at_once = in_v2 && sys::exists(record.unified + "/cgroup.kill");
  FLUYT_TRY(cgroup::kill_all(record, Deadline::after_ms(kPatienceMs)));
  FLUYT_TRY(process.wait(Deadline::after_ms(kPatienceMs)));
  return cat(in_v2 ? "born in it (CLONE_INTO_CGROUP)" : "moved into it", ", ended ",
             at_once ? "at once (cgroup.kill)" : "one by one (no cgroup.kill)");
}

Result<std::string> freeze(const runtime::CgroupRecord& record) {
  const sys::Process process = FLUYT_TRY(inhabit(record));
  FLUYT_TRY(cgroup::freeze(record, Deadline::after_ms(kPatienceMs)));
  if (!FLUYT_TRY(cgroup::frozen(record))) return Error(Code::kInternal, "it does not stand still");
  FLUYT_TRY(cgroup::thaw(record));
  FLUYT_TRY(cgroup::kill_all(record, Deadline::after_ms(kPatienceMs)));
  FLUYT_TRY(process.wait(Deadline::after_ms(kPatienceMs)));
  return std::string(record.unified.empty() ? "v1" : "v2 (cgroup.freeze)");
}

Result<std::string> device_rules(const runtime::CgroupRecord& record) {
  FLUYT_TRY(cgroup::apply_devices(record, {}));
  const bool legacy =
      std::ranges::any_of(record.legacy, [](const auto& one) { return one.first == "devices"; });
  return std::string(legacy ? "v1 (devices.allow)" : "v2 (a BPF program)");
}

Result<std::string> swap_limits(const Host& host) {
  if (const std::string* memory = host.find_legacy("memory")) {
    FLUYT_TRY(sys::read_file(*memory + "/memory.memsw.limit_in_bytes", 64));
    return std::string("v1 (memory.memsw)");
  }
  const std::string& root = host.unified;
  // The root has no such file, and other cgroups only where the controller is enabled: what systemd
  // or a kubelet has made tells. Enabling it ourselves would leave it enabled.
  for (const std::string& name :
       FLUYT_TRY(sys::list_subdirs(FLUYT_TRY(sys::open(root, O_RDONLY | O_DIRECTORY))))) {
    const std::string folder = cat(root, "/", name);
    if (!sys::exists(folder + "/memory.max")) continue;
    FLUYT_TRY(sys::read_file(folder + "/memory.swap.max", 64));
    return std::string("v2 (memory.swap.max)");
  }
  FLUYT_TRY(sys::read_file("/proc/swaps", 1U << 16U));
  return std::string("v2, and the kernel can swap");
}

Result<std::string> systemd() {
  auto manager = cgroup::systemd::Manager::connect(cgroup::systemd::Manager::Instance::kSystem,
                                                   Deadline::after_ms(kPatienceMs));
  if (manager.ok()) return cat("systemd ", manager->version(), " answers on D-Bus");
  const auto first = sys::read_file("/proc/1/comm", 64);
  return Error(Code::kFailedPrecondition, cat("no answer on D-Bus; process 1 is ",
                                              first.ok() ? trim(*first) : "not to be seen"));
}

}  // namespace

void examine_cgroups(const Options& options, Findings findings) {
  Findings::About about{.name = "cgroups",
                        .need = Need::kPods,
                        .loses = "no container can be limited, counted or ended as a whole",
                        .remedy = "mount -t cgroup2 cgroup2 /sys/fs/cgroup"};
  const Result<Host> host = cgroup::probe();
  if (!host.ok()) return findings.add(std::move(about), host.error());
  findings.add(std::move(about), Has::kYes, mode_of(*host));
  examine_controllers(*host, findings);
  const std::string writable = "a writable cgroup file system: mount -o remount,rw it";
  findings.add({.name = "processes in cgroups",
                .need = Need::kPods,
                .loses = "no container can be made or ended as a whole",
                .remedy = writable},
               with_cgroup(*host, live_and_end));
  findings.add({.name = "device rules",
                .need = Need::kPods,
                .loses = "containers cannot be kept from the host's devices",
                .remedy = "a kernel with CONFIG_CGROUP_BPF, or the v1 controller devices"},
               with_cgroup(*host, device_rules));
  findings.add({.name = "freezer",
                .loses = "no runf pause; ending a fork bomb on v1 may take longer",
                .remedy = "mount the v1 controller freezer, or a v2 hierarchy"},
               with_cgroup(*host, freeze));
  findings.add({.name = "swap limits",
                .loses = "limits of swap are left out",
                .remedy = "boot with swapaccount=1"},
               swap_limits(*host));
  findings.try_out(
      {.name = "systemd",
       .need = options.systemd_driver ? Need::kPods : Need::kSome,
       .loses = options.systemd_driver ? "cgroup.driver = \"systemd\" does not work"
                                       : "cgroup.driver = \"systemd\" is no choice; the default is",
       .remedy =
           options.systemd_driver ? "set cgroup.driver = \"cgroupfs\", and the kubelet's too" : ""},
      systemd);
}

}  // namespace fluyt::host
