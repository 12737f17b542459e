#include "guest/proc/sysfs.h"

#include <net/if.h>
#include <net/if_arp.h>

#include <memory>
#include <string_view>
#include <utility>

#include "guest/proc/nodes.h"

namespace fluyt::guest {
namespace {

constexpr NodeSystem kSys{.magic = 0x62656572,
                          .device = make_device(0, 16),
                          .block_size = 4096,
                          .text_size = 4096,
                          .failure = NodeSystem::Failure::kAtRead};
constexpr uint8_t kFolder = 4;  // DT_*
constexpr uint8_t kFile = 8;
constexpr uint8_t kLink = 10;
constexpr uint32_t kLowerUp = 0x10000;  // IFF_*, of <linux/if.h> alone
constexpr uint32_t kDormant = 0x20000;

/// A folder that is filled once, when the file system is made.
class Folder {
 public:
  explicit Folder(uint64_t& numbers) : numbers_(&numbers) {
    node_ = std::make_shared<DirectoryNode>(kSys, ++*numbers_, 0555);
  }
  Folder folder(const std::string& name) const {
    Folder made(*numbers_);
    node_->add(name, kFolder, [node = made.node_]() -> InodePtr { return node; });
    return made;
  }
  void text(const std::string& name, Text text) const {
    auto made = std::make_shared<TextNode>(kSys, 0444, ++*numbers_, std::move(text), nullptr);
    node_->add(name, kFile, [made]() -> InodePtr { return made; });
  }
  void is(const std::string& name, std::string value) const {
    text(name, [value = std::move(value)]() -> ErrnoOr<std::string> { return value; });
  }
  /// A file that is there and cannot be read.
  void refuses(const std::string& name, int error) const {
    text(name, [error]() -> ErrnoOr<std::string> { return Errno(error); });
  }
  void link(const std::string& name, std::string target) const {
    auto made = std::make_shared<LinkNode>(
        kSys, ++*numbers_,
        [target = std::move(target)]() -> ErrnoOr<std::string> { return target; }, nullptr);
    node_->add(name, kLink, [made]() -> InodePtr { return made; });
  }
  InodePtr inode() const { return node_; }

 private:
  uint64_t* numbers_;
  std::shared_ptr<DirectoryNode> node_;
};

std::string line(uint64_t value) { return std::to_string(value) + "\n"; }

/// Processors from `first` on, as cpuset(7) has lists of them.
std::string list_of(unsigned first, unsigned count) {
  if (count == 0) return "\n";
  if (count == 1) return line(first);
  return std::to_string(first) + "-" + std::to_string(first + count - 1) + "\n";
}

/// The same as a mask (cpuset(7)) of as many bits as there are processors.
std::string mask_of(unsigned first, unsigned count, unsigned processors) {
  constexpr unsigned kWord = 32;
  std::string out;
  for (unsigned word = (processors + kWord - 1) / kWord; word-- > 0;) {
    uint32_t bits = 0;
    for (unsigned i = 0; i < kWord; ++i) {
      const unsigned at = word * kWord + i;
      if (at >= first && at - first < count) bits |= uint32_t{1} << i;
    }
    const unsigned top = std::min(kWord, processors - word * kWord);
    print(out, "%0*x%s", static_cast<int>((top + 3) / 4), bits, word == 0 ? "\n" : ",");
  }
  return out;
}

std::string address_text(const Interface& device, bool broadcast) {
  std::string out;
  for (const uint8_t byte : device.hardware)
    print(out, "%s%02x", out.empty() ? "" : ":", broadcast ? 0xffU : unsigned{byte});
  return out + "\n";
}

void fill_interface(const Folder& at, const Interface& device) {
  const bool loops = (device.flags & IFF_LOOPBACK) != 0;
  const bool up = (device.flags & IFF_UP) != 0;
  const bool runs = (device.flags & IFF_RUNNING) != 0;
  at.is("address", address_text(device, false));
  at.is("addr_len", line(device.hardware.size()));
  at.is("broadcast", address_text(device, !loops && device.kind == ARPHRD_ETHER));
  if (up)
    at.is("carrier", line((device.flags & kLowerUp) != 0 ? 1 : 0));
  else
    at.refuses("carrier", EINVAL);
  // As of a device whose driver cannot say.
  at.refuses("duplex", EINVAL);
  at.refuses("speed", EINVAL);
  std::string flags;
  // What comes and goes with the state is not among what was configured.
  print(flags, "0x%x\n",
        device.flags & ~(static_cast<uint32_t>(IFF_RUNNING) | kLowerUp | kDormant));
  at.is("flags", flags);
  at.is("ifindex", line(static_cast<uint64_t>(device.index)));
  at.is("iflink", line(static_cast<uint64_t>(device.index)));
  at.is("mtu", line(device.mtu));
  at.is("operstate", !up ? "down\n" : loops ? "unknown\n" : runs ? "up\n" : "down\n");
  at.is("tx_queue_len", "1000\n");  // as SIOCGIFTXQLEN has it
  at.is("type", line(device.kind));
  at.is("uevent", "INTERFACE=" + device.name + "\nIFINDEX=" + std::to_string(device.index) + "\n");
}

/// One package whose cores have a thread each: what of them share a core the host alone knows.
void fill_processors(const Folder& cpu, unsigned processors) {
  for (const char* name : {"online", "possible", "present"}) cpu.is(name, list_of(0, processors));
  for (const char* name : {"offline", "isolated"}) cpu.is(name, "\n");
  // The most that sched_getaffinity's mask in the C library holds.
  cpu.is("kernel_max", "1023\n");
  for (unsigned i = 0; i < processors; ++i) {
    const Folder topology = cpu.folder("cpu" + std::to_string(i)).folder("topology");
    topology.is("core_id", line(i));
    for (const char* name : {"die_id", "physical_package_id"}) topology.is(name, "0\n");
    for (const char* name : {"core_cpus", "thread_siblings"}) {
      topology.is(name, mask_of(i, 1, processors));
      topology.is(std::string(name) + "_list", list_of(i, 1));
    }
    for (const char* name : {"core_siblings", "die_cpus", "package_cpus"}) {
      topology.is(name, mask_of(0, processors, processors));
      topology.is(std::string(name) + "_list", list_of(0, processors));
    }
  }
}

std::string node_memory(const host::MemoryFigures& figures) {
  std::string out;
  const auto row = [&out](const char* name, uint64_t bytes) {
    const std::string label = std::string(name) + ":";
    print(out, "Node 0 %-15s %8lu kB\n", label.c_str(), bytes / 1024);
  };
  row("MemTotal", figures.total);
  row("MemFree", figures.free);
  row("MemUsed", figures.total - std::min(figures.free, figures.total));
  row("Active", figures.active);
  row("Inactive", figures.inactive);
  row("FilePages", figures.cached + figures.buffers);
  row("Shmem", figures.shared);
  row("SReclaimable", figures.reclaimable);
  return out;
}

void fill_nodes(const Folder& nodes, const SysfsView& view) {
  for (const char* name : {"online", "possible", "has_cpu", "has_memory", "has_normal_memory"})
    nodes.is(name, "0\n");
  const Folder node = nodes.folder("node0");
  node.is("cpulist", list_of(0, view.processors));
  node.is("cpumap", mask_of(0, view.processors, view.processors));
  node.is("distance", "10\n");
  node.text("meminfo",
            [memory = view.memory]() -> ErrnoOr<std::string> { return node_memory(memory()); });
  for (unsigned i = 0; i < view.processors; ++i) {
    const std::string name = "cpu" + std::to_string(i);
    node.link(name, "../../cpu/" + name);
  }
}

}  // namespace

std::vector<std::string> huge_page_settings() {
  return {"enabled", "defrag", "shmem_enabled", "hpage_pmd_size", "use_zero_page"};
}

InodePtr make_sysfs(SysfsView view) {
  uint64_t numbers = 0;
  const Folder root(numbers);
  for (const char* name : {"block", "bus", "firmware", "module", "power"}) root.folder(name);
  const Folder dev = root.folder("dev");
  for (const char* name : {"block", "char"}) dev.folder(name);
  root.folder("fs").folder("cgroup");

  const Folder mm = root.folder("kernel").folder("mm");
  mm.folder("hugepages");
  if (!view.huge_pages.empty()) {
    const Folder huge = mm.folder("transparent_hugepage");
    for (const auto& [name, text] : view.huge_pages) huge.is(name, text);
  }

  const Folder devices = root.folder("devices");
  const Folder system = devices.folder("system");
  fill_processors(system.folder("cpu"), view.processors);
  fill_nodes(system.folder("node"), view);
  const Folder net = devices.folder("virtual").folder("net");
  const Folder net_class = root.folder("class").folder("net");
  for (const Interface& device : view.interfaces) {
    const Folder at = net.folder(device.name);
    fill_interface(at, device);
    at.link("subsystem", "../../../../class/net");
    net_class.link(device.name, "../../devices/virtual/net/" + device.name);
  }
  return root.inode();
}

}  // namespace fluyt::guest
