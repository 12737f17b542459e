#include "oci/runtime_spec.h"

namespace fluyt::oci {
namespace {

Process default_process() {
  Process process;
  process.terminal = true;
  process.args = {"sh"};
  process.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  process.cwd = "/";
  process.no_new_privileges = true;
  const std::vector<std::string> names = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  process.capabilities = Capabilities{.bounding = names, .effective = names, .permitted = names};
  process.rlimits = {{.type = "RLIMIT_NOFILE", .soft = 1024, .hard = 1024}};
  return process;
}

std::vector<Mount> default_mounts() {
  return {
      {.destination = "/proc", .type = "proc", .source = "proc"},
      {.destination = "/dev",
       .type = "tmpfs",
       .source = "tmpfs",
       .options = {"nosuid", "strictatime", "mode=755", "size=65536k"}},
      {.destination = "/dev/pts",
       .type = "devpts",
       .source = "devpts",
       .options = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
      {.destination = "/dev/shm",
       .type = "tmpfs",
       .source = "shm",
       .options = {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
      {.destination = "/dev/mqueue",
       .type = "mqueue",
       .source = "mqueue",
       .options = {"nosuid", "noexec", "nodev"}},
      {.destination = "/sys",
       .type = "sysfs",
       .source = "sysfs",
       .options = {"nosuid", "noexec", "nodev", "ro"}},
      {.destination = "/sys/fs/cgroup",
       .type = "cgroup",
       .source = "cgroup",
       .options = {"nosuid", "noexec", "nodev", "relatime", "ro"}},
  };
}

Linux default_linux() {
  Linux out;
  for (const NamespaceType type :
       {NamespaceType::kPid, NamespaceType::kNetwork, NamespaceType::kIpc, NamespaceType::kUts,
        NamespaceType::kMount, NamespaceType::kCgroup}) {
    out.namespaces.push_back({.type = type});
  }
  out.resources = Resources{.devices = {{.allow = false, .type = 'a', .access = "rwm"}}};
  out.masked_paths = {"/proc/acpi",          "/proc/asound",
                      "/proc/kcore",         "/proc/keys",
                      "/proc/latency_stats", "/proc/timer_list",
                      "/proc/timer_stats",   "/proc/sched_debug",
                      "/sys/firmware",       "/sys/devices/virtual/powercap",
                      "/proc/scsi"};
  out.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return out;
}

}  // namespace

Spec default_spec() {
  Spec spec;
  spec.process = default_process();
  spec.root = Root{.path = "rootfs", .readonly = true};
  spec.hostname = "fluyt";
  spec.mounts = default_mounts();
  spec.linux_ = default_linux();
  return spec;
}

void make_rootless(Spec& spec, uint32_t uid, uint32_t gid) {
  Linux& linux_part = *spec.linux_;
  std::erase_if(linux_part.namespaces,
                [](const Namespace& space) { return space.type == NamespaceType::kNetwork; });
  linux_part.namespaces.push_back({.type = NamespaceType::kUser});
  linux_part.uid_mappings = {{.container_id = 0, .host_id = uid, .size = 1}};
  linux_part.gid_mappings = {{.container_id = 0, .host_id = gid, .size = 1}};
  linux_part.resources.reset();
  for (Mount& mount : spec.mounts) {
    if (mount.destination == "/sys") {
      // The kernel gives a sysfs of its own only to who owns the network namespace.
      mount.type = "none";
      mount.source = "/sys";
      mount.options = {"rbind", "nosuid", "noexec", "nodev", "ro"};
    }
    std::erase_if(mount.options, [](const std::string& option) {
      return option.starts_with("gid=") || option.starts_with("uid=");
    });
  }
}

}  // namespace fluyt::oci
