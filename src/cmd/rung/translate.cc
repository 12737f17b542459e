#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/strings.h"
#include "cmd/rung/pod.h"
#include "cmd/rung/rung.h"
#include "runtime/caps/caps.h"
#include "runtime/plan.h"
#include "runtime/seccomp/compile.h"

namespace fluyt::rung {

namespace {

namespace caps = runtime::caps;
using Kind = guest::SandboxMount::Kind;

constexpr int64_t kMaxTasks = 30000;
constexpr int64_t kOfSandbox = 64;  // its own processes and threads

bool lies_below(std::string_view path, std::string_view folder) {
  return path.size() > folder.size() && path.starts_with(folder) && path[folder.size()] == '/';
}

bool has_option(const oci::Mount& mount, std::string_view name) {
  return std::find(mount.options.begin(), mount.options.end(), name) != mount.options.end();
}

bool is_bind(const oci::Mount& mount) {
  return mount.type == "bind" || has_option(mount, "bind") || has_option(mount, "rbind");
}

// What the guest kernel shows of its own, wherever the host's tree has it.
bool is_guests(const oci::Mount& mount) {
  if (is_bind(mount)) return false;
  const std::string path = runtime::clean_path(mount.destination);
  static constexpr std::array<std::string_view, 6> kTypes = {"proc",   "sysfs",  "devpts",
                                                             "mqueue", "cgroup", "cgroup2"};
  if (std::find(kTypes.begin(), kTypes.end(), mount.type) != kTypes.end()) return true;
  return mount.type == "tmpfs" && (path == "/dev" || lies_below(path, "/dev"));
}

bool is_in_guests_tree(std::string_view path) {
  for (const std::string_view folder : {"/proc", "/sys", "/dev"}) {
    if (path == folder || lies_below(path, folder)) return true;
  }
  return false;
}

std::vector<std::string> in_guests_tree(const std::vector<std::string>& paths) {
  std::vector<std::string> out;
  for (const std::string& path : paths) {
    if (is_in_guests_tree(runtime::clean_path(path))) out.push_back(runtime::clean_path(path));
  }
  return out;
}

std::optional<uint32_t> mode_of(const oci::Mount& mount) {
  for (const std::string_view option : mount.options) {
    if (!option.starts_with("mode=")) continue;
    uint32_t mode = 0;
    for (const char c : option.substr(5)) {
      if (c < '0' || c > '7') return std::nullopt;
      mode = mode * 8 + static_cast<uint32_t>(c - '0');
    }
    return mode & 07777;
  }
  return std::nullopt;
}

/// What limits a tmpfs.
std::string limits_of(const oci::Mount& mount) {
  std::string out;
  for (const std::string_view option : mount.options) {
    if (!option.starts_with("size=") && !option.starts_with("nr_")) continue;
    if (!out.empty()) out += ',';
    out += option;
  }
  return out;
}

guest::SandboxMount guest_mount(const oci::Mount& mount) {
  guest::SandboxMount out;
  out.path = runtime::clean_path(mount.destination);
  out.read_only = has_option(mount, "ro");
  out.mode = mode_of(mount).value_or(01777);
  if (mount.type == "tmpfs") out.data = limits_of(mount);
  if (mount.type == "proc") {
    out.kind = Kind::kProc;
  } else if (mount.type == "sysfs") {
    out.kind = Kind::kSysfs;
  } else if (mount.type == "devpts") {
    out.kind = Kind::kDevPts;
  } else if (out.path == "/dev") {
    out.kind = Kind::kDev;
    out.mode = mode_of(mount).value_or(0755);
  } else if (mount.type == "mqueue") {
    out.kind = Kind::kMqueue;
  } else if (mount.type == "cgroup" || mount.type == "cgroup2") {
    out.kind = Kind::kCgroup;
    out.read_only = true;
  }
  return out;
}

Result<int> limit_of(const std::string& name, size_t index) {
  static constexpr std::array<std::pair<std::string_view, int>, 16> kNames = {
      {{"RLIMIT_CPU", RLIMIT_CPU},
       {"RLIMIT_FSIZE", RLIMIT_FSIZE},
       {"RLIMIT_DATA", RLIMIT_DATA},
       {"RLIMIT_STACK", RLIMIT_STACK},
       {"RLIMIT_CORE", RLIMIT_CORE},
       {"RLIMIT_RSS", RLIMIT_RSS},
       {"RLIMIT_NPROC", RLIMIT_NPROC},
       {"RLIMIT_NOFILE", RLIMIT_NOFILE},
       {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
       {"RLIMIT_AS", RLIMIT_AS},
       {"RLIMIT_LOCKS", RLIMIT_LOCKS},
       {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
       {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
       {"RLIMIT_NICE", RLIMIT_NICE},
       {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
       {"RLIMIT_RTTIME", RLIMIT_RTTIME}}};
  for (const auto& [known, number] : kNames) {
    if (known == name) return number;
  }
  return Error(Code::kInvalidArgument,
               cat("process.rlimits[", index, "].type: ", quote(name), ": expected RLIMIT_..."));
}

// Of the guest kernel's: it can give all that there are.
caps::Resolved capabilities_of(const oci::Process& process) {
  constexpr uint64_t kAll = guest::Credentials::kAllCapabilities;
  const caps::Sets all{
      .bounding = kAll, .effective = kAll, .inheritable = kAll, .permitted = kAll, .ambient = 0};
  return caps::resolve(process.capabilities.value_or(oci::Capabilities()), all, caps::kLastNamed);
}

std::vector<std::string> sentrys_capabilities() {
  // The broker's, those that making the rest takes, and CAP_SYS_PTRACE for hosts whose Yama asks
  // for it (ptrace_scope of 2). CAP_NET_BIND_SERVICE is the net broker's.
  return {"CAP_CHOWN",     "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH",
          "CAP_FOWNER",    "CAP_FSETID",       "CAP_NET_BIND_SERVICE",
          "CAP_SYS_ADMIN", "CAP_SYS_CHROOT",   "CAP_SYS_PTRACE"};
}

oci::Process outer_process(const oci::Process& asked) {
  oci::Process out;
  out.args = {"rung"};  // the launcher's words come with it
  out.cwd = "/";
  out.capabilities.emplace();
  out.capabilities->bounding = out.capabilities->effective = out.capabilities->permitted =
      sentrys_capabilities();
  out.no_new_privileges = true;
  out.oom_score_adj = asked.oom_score_adj;
  out.scheduler = asked.scheduler;
  out.io_priority = asked.io_priority;
  return out;
}

bool makes_user_namespace(const oci::Linux& config) {
  return std::any_of(
      config.namespaces.begin(), config.namespaces.end(),
      [](const oci::Namespace& space) { return space.type == oci::NamespaceType::kUser; });
}

}  // namespace

int64_t host_pids(int64_t guest_limit) {
  return guest_limit <= 0 ? guest_limit : guest_limit * 4 + kOfSandbox;
}

OuterSpec outer_spec(const oci::Spec& spec) {
  OuterSpec translated{spec, {}};
  oci::Spec& out = translated.spec;
  if (spec.process) out.process = outer_process(*spec.process);
  out.mounts.clear();
  bool bind_in_dev = false;
  for (const oci::Mount& mount : spec.mounts)
    bind_in_dev |= is_bind(mount) && lies_below(runtime::clean_path(mount.destination), "/dev");
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    const oci::Mount& mount = spec.mounts[i];
    // A user namespace gets a procfs only where it sees one already.
    const bool wanted_proc =
        mount.type == "proc" && spec.linux_ && makes_user_namespace(*spec.linux_);
    const bool wanted_dev = bind_in_dev && runtime::clean_path(mount.destination) == "/dev";
    if (is_guests(mount) && !wanted_proc && !wanted_dev) continue;
    out.mounts.push_back(mount);
    translated.mount_places.push_back(i);
  }
  if (!out.linux_) return translated;
  oci::Linux& config = *out.linux_;
  config.devices.clear();
  config.seccomp.reset();
  config.personality.reset();
  std::erase_if(config.masked_paths, [](const std::string& path) {
    return is_in_guests_tree(runtime::clean_path(path));
  });
  std::erase_if(config.readonly_paths, [](const std::string& path) {
    return is_in_guests_tree(runtime::clean_path(path));
  });
  if (config.resources && config.resources->pids_limit)
    config.resources->pids_limit = host_pids(*config.resources->pids_limit);
  // The guest kernel works for all of a pod: it is not to have the share of one that sleeps.
  if (config.resources && config.resources->cpu && pod_role(spec).is_sandbox)
    config.resources->cpu->shares.reset();
  return translated;
}

Result<guest::ProgramRequest> program_of(const oci::Process& process,
                                         const std::optional<oci::Seccomp>& filter) {
  guest::ProgramRequest out;
  if (process.args.empty()) return Error(Code::kInvalidArgument, "process.args: expected words");
  out.arguments = process.args;
  out.environment = process.env;
  if (!process.cwd.starts_with('/'))
    return Error(Code::kInvalidArgument,
                 cat("process.cwd: ", quote(process.cwd), ": expected an absolute path"));
  out.working_directory = process.cwd;
  guest::Credentials& who = out.credentials;
  who.uid = who.euid = who.suid = who.fsuid = process.user.uid;
  who.gid = who.egid = who.sgid = who.fsgid = process.user.gid;
  who.groups = process.user.additional_gids;
  const caps::Sets sets = capabilities_of(process).sets;
  who.bounding = sets.bounding;
  who.permitted = sets.permitted;
  who.effective = sets.effective;
  who.inheritable = sets.inheritable;
  who.ambient = sets.ambient;
  out.umask = process.user.umask;
  for (size_t i = 0; i < process.rlimits.size(); ++i) {
    const oci::Rlimit& limit = process.rlimits[i];
    if (limit.soft > limit.hard)
      return Error(Code::kInvalidArgument, cat("process.rlimits[", i, "]: ", limit.type, ": soft ",
                                               limit.soft, " is above hard ", limit.hard));
    if (!out.limits.emplace(FLUYT_TRY(limit_of(limit.type, i)), std::pair(limit.soft, limit.hard))
             .second)
      return Error(Code::kInvalidArgument,
                   cat("process.rlimits[", i, "].type: ", limit.type, " stands twice"));
  }
  out.no_new_privileges = process.no_new_privileges;
  if (filter) {
    const runtime::seccomp::Program program = FLUYT_TRY(runtime::seccomp::compile(*filter));
    if (program.notifies)
      return Error(Code::kUnimplemented,
                   "linux.seccomp: \"SCMP_ACT_NOTIFY\": the guest kernel notifies nobody");
    static_assert(sizeof(runtime::seccomp::Instruction) == sizeof(uint64_t));
    out.filter.resize(program.code.size());
    std::memcpy(out.filter.data(), program.code.data(), program.code.size() * sizeof(uint64_t));
  }
  return out;
}

Result<guest::SandboxRequest> sandbox_of(const oci::Spec& spec) {
  guest::SandboxRequest out;
  if (!spec.process) return Error(Code::kInvalidArgument, "process: expected a program");
  out.program = FLUYT_TRY(program_of(
      *spec.process, spec.linux_ ? spec.linux_->seccomp : std::optional<oci::Seccomp>()));
  // Whatever namespace the specification gave the container: its devices are the guest's.
  out.network = guest::SandboxNetwork::kNamespace;
  out.host_name = spec.hostname;
  out.domain_name = spec.domainname;
  out.holds_pod = pod_role(spec).is_sandbox;
  out.init_is_spared =
      out.holds_pod ||
      (spec.linux_ && std::any_of(spec.linux_->namespaces.begin(), spec.linux_->namespaces.end(),
                                  [](const oci::Namespace& space) {
                                    return space.type == oci::NamespaceType::kPid &&
                                           space.path.empty();
                                  }));
  for (const oci::Mount& mount : spec.mounts) {
    if (is_guests(mount)) out.mounts.push_back(guest_mount(mount));
  }
  if (spec.linux_) {
    out.masked_paths = in_guests_tree(spec.linux_->masked_paths);
    out.read_only_paths = in_guests_tree(spec.linux_->readonly_paths);
  }
  if (spec.linux_ && spec.linux_->resources && spec.linux_->resources->memory) {
    // A limit that comes by a later update finds it so only where one was there before.
    const int64_t limit = spec.linux_->resources->memory->limit.value_or(-1);
    if (limit > 0) out.memory_limit_bytes = static_cast<uint64_t>(limit);
  }
  if (spec.linux_ && spec.linux_->resources && spec.linux_->resources->cpu) {
    const oci::CpuResources& cpu = *spec.linux_->resources->cpu;
    out.processor_quota_us = static_cast<uint64_t>(std::max<int64_t>(cpu.quota.value_or(0), 0));
    out.processor_period_us = cpu.period.value_or(0);
  }
  if (spec.linux_ && spec.linux_->resources && spec.linux_->resources->pids_limit) {
    const int64_t limit = *spec.linux_->resources->pids_limit;
    if (limit > 0) out.max_tasks = static_cast<size_t>(std::min(limit, kMaxTasks));
  }
  return out;
}

std::vector<std::string> left_out(const oci::Spec& spec) {
  std::vector<std::string> out;
  if (spec.process) out = capabilities_of(*spec.process).warnings;
  if (spec.process && !spec.process->apparmor_profile.empty())
    out.emplace_back(
        "process.apparmorProfile: it is about the host's kernel, which the program does not reach");
  if (spec.process && !spec.process->selinux_label.empty())
    out.emplace_back(
        "process.selinuxLabel: it is about the host's kernel, which the program does not reach");
  if (spec.linux_ && !spec.linux_->devices.empty())
    out.emplace_back("linux.devices: the guest kernel has none of the host's");
  return out;
}

}  // namespace fluyt::rung
