#include "monitor/process/sandbox.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/strings.h"
#include "monitor/process/pod_init.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxHostname = 64;  // the kernel's __NEW_UTS_LEN

std::string namespace_path(const std::string& state_dir, std::string_view file) {
  return cat(state_dir, "/", kNamespaceFolder, "/", file);
}

// Which namespace holds a sysctl, as runc and the kubelet's allow-list know them.
bool is_network_sysctl(std::string_view name) { return name.starts_with("net."); }
bool is_ipc_sysctl(std::string_view name) {
  constexpr std::array<std::string_view, 9> kNames = {
      "kernel.msgmax", "kernel.msgmnb",          "kernel.msgmni",
      "kernel.sem",    "kernel.shmall",          "kernel.shmmax",
      "kernel.shmmni", "kernel.shm_rmid_forced", "kernel.auto_msgmni"};
  return name.starts_with("fs.mqueue.") ||
         std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// Both separators are in use: net.ipv4.conf.eth0/100.forwarding is
// net/ipv4/conf/eth0.100/forwarding. The first one decides which is the separator.
std::string dotted(std::string_view name) {
  std::string out(name);
  const size_t first = out.find_first_of("./");
  if (first == std::string::npos || out[first] == '.') return out;
  for (char& c : out) c = c == '/' ? '.' : (c == '.' ? '/' : c);
  return out;
}

std::string sysctl_path(std::string_view name) {
  std::string out = dotted(name);
  for (char& c : out) c = c == '.' ? '/' : (c == '/' ? '.' : c);
  return out;
}

Result<> check_sysctl(const SandboxRequest& request, const std::string& name,
                      const std::string& value) {
  auto refuse = [&](std::string_view why) {
    return Error(Code::kInvalidArgument,
                 cat("sysctl ", quote(name), " = ", quote(value), ": ", why));
  };
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
  if (name.empty() || name.size() > 255 || name.find_first_not_of(kAllowed) != std::string::npos) {
    return refuse("expected a name of letters, digits and . _ - /");
  }
  const std::string path = sysctl_path(name);
  for (const std::string_view piece : split(path, '/')) {
    if (piece.empty() || piece == "." || piece == "..")
      return refuse("expected no empty, . or .. parts");
  }
  if (value.size() > 4096 || has_control_characters(value))
    return refuse("the value has control characters");
  const std::string plain = dotted(name);
  if (is_network_sysctl(plain)) {
    if (!request.new_network) return refuse("it would change the host's network");
  } else if (is_ipc_sysctl(plain)) {
    if (!request.new_ipc) return refuse("it would change the host's IPC");
  } else {
    return refuse("no namespace of the sandbox holds it");
  }
  return {};
}

// Our own procfs, mounted nowhere: nobody can have put something over its files.
Result<sys::Fd> private_procfs() {
  const sys::Fd context(static_cast<int>(syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC)));
  if (!context.valid()) return Error::from_errno(errno, "fsopen(proc)");
  if (syscall(SYS_fsconfig, context.raw(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return Error::from_errno(errno, "fsconfig(proc, create)");
  }
  sys::Fd root(static_cast<int>(syscall(SYS_fsmount, context.raw(), FSMOUNT_CLOEXEC,
                                        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)));
  if (!root.valid()) return Error::from_errno(errno, "fsmount(proc)");
  return root;
}

Result<> write_sysctls(const std::vector<std::pair<std::string, std::string>>& sysctls) {
  if (sysctls.empty()) return {};
  const sys::Fd proc = FLUYT_TRY(private_procfs());
  for (const auto& [name, value] : sysctls) {
    auto file =
        sys::open_in(proc, cat("sys/", sysctl_path(name)), O_WRONLY, 0, sys::Resolve::kBeneath);
    auto written = file.ok() ? sys::write_all(*file, value) : Result<>(std::move(file).error());
    if (!written.ok())
      return std::move(written).error().add_context(
          cat("sysctl ", quote(name), " = ", quote(value)));
  }
  return {};
}

Result<> raise_loopback() {
  const sys::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return Error::from_errno(errno, "socket(AF_INET)");
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  if (ioctl(socket.raw(), SIOCGIFFLAGS, &request) != 0)
    return Error::from_errno(errno, "ioctl(SIOCGIFFLAGS, lo)");
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  if (ioctl(socket.raw(), SIOCSIFFLAGS, &request) != 0)
    return Error::from_errno(errno, "ioctl(SIOCSIFFLAGS, lo up)");
  return {};
}

Result<> mount_call(const char* source, const std::string& target, unsigned long flags) {
  if (::mount(source, target.c_str(), nullptr, flags, nullptr) == 0) return {};
  return Error::from_errno(
      errno, cat("mount(", source == nullptr ? "" : source, ", ", quote(target, 1024), ")"));
}

// The folder becomes a private mount of its own first: what is mounted in it does not spread to the
// mount namespaces of others, where it would keep the namespace alive.
Result<> make_namespace_folder(const std::string& state_dir) {
  const std::string folder = cat(state_dir, "/", kNamespaceFolder);
  FLUYT_TRY(sys::make_dirs(folder, 0700));
  FLUYT_TRY(mount_call(folder.c_str(), folder, MS_BIND));
  return mount_call(nullptr, folder, MS_PRIVATE);
}

Result<> pin(const std::string& state_dir, std::string_view file, const std::string& source) {
  const std::string path = namespace_path(state_dir, file);
  FLUYT_TRY(sys::open(path, O_RDONLY | O_CREAT | O_NOFOLLOW, 0600));
  return mount_call(source.c_str(), path, MS_BIND);
}

Result<WorkerReply> make_all(const SandboxRequest& request, const std::string& state_dir,
                             sys::FdRef pod_init_program) {
  FLUYT_TRY(make_namespace_folder(state_dir));
  // A user namespace would be unshared here, first, so that the others belong to it.
  const int flags = (request.new_network ? CLONE_NEWNET : 0) |
                    (request.new_ipc ? CLONE_NEWIPC : 0) | (request.new_uts ? CLONE_NEWUTS : 0);
  if (flags != 0 && unshare(flags) != 0)
    return Error::from_errno(errno, "unshare(network, ipc, uts)");
  if (request.new_uts && !request.hostname.empty() &&
      sethostname(request.hostname.data(), request.hostname.size()) != 0) {
    return Error::from_errno(errno, cat("sethostname(", quote(request.hostname), ")"));
  }
  if (request.new_network) FLUYT_TRY(raise_loopback());
  FLUYT_TRY(write_sysctls(request.sysctls));
  if (request.new_network) FLUYT_TRY(pin(state_dir, "net", "/proc/self/ns/net"));
  if (request.new_ipc) FLUYT_TRY(pin(state_dir, "ipc", "/proc/self/ns/ipc"));
  if (request.new_uts) FLUYT_TRY(pin(state_dir, "uts", "/proc/self/ns/uts"));
  WorkerReply reply;
  if (!request.shared_pid) return reply;

  PodInit init = FLUYT_TRY_CONTEXT(start_pod_init(request, pod_init_program), "pod init");
  auto pinned = pin(state_dir, "pid", cat("/proc/", init.process.pid(), "/ns/pid"));
  if (!pinned.ok()) {
    init.process.kill(SIGKILL).ignore("the sandbox is not made");
    return std::move(pinned).error();
  }
  reply.text = encode(init.record);
  reply.fds.push_back(init.process.release_pidfd());
  return reply;
}

}  // namespace

Result<> check_sandbox(const SandboxRequest& request) {
  if (request.hostname.size() > kMaxHostname || has_control_characters(request.hostname)) {
    return Error(Code::kInvalidArgument,
                 cat("hostname ", quote(request.hostname),
                     ": expected at most 64 bytes without control characters"));
  }
  for (const auto& [name, value] : request.sysctls) FLUYT_TRY(check_sysctl(request, name, value));
  return {};
}

Result<WorkerReply> make_sandbox(const SandboxRequest& request, const std::string& state_dir,
                                 sys::FdRef pod_init_program) {
  auto reply = make_all(request, state_dir, pod_init_program);
  if (!reply.ok()) unmount_namespaces(state_dir).ignore("the first error is the one that teaches");
  return reply;
}

Result<Sandbox> sandbox_from(WorkerReply reply, const SandboxRequest& request,
                             const std::string& state_dir) {
  Sandbox sandbox;
  if (request.new_network) sandbox.namespaces.network = namespace_path(state_dir, "net");
  if (request.new_ipc) sandbox.namespaces.ipc = namespace_path(state_dir, "ipc");
  if (request.new_uts) sandbox.namespaces.uts = namespace_path(state_dir, "uts");
  if (!request.shared_pid) return sandbox;
  sandbox.namespaces.pid = namespace_path(state_dir, "pid");
  sandbox.pod_init_record = FLUYT_TRY(decode_process_record(reply.text));
  if (reply.fds.size() != 1)
    return Error(Code::kInternal, "the worker sent no pidfd of the pod init");
  sandbox.pod_init = sys::Process(sandbox.pod_init_record.pid, std::move(reply.fds[0]));
  return sandbox;
}

Result<> unmount_namespaces(const std::string& state_dir) {
  auto unmount = [](const std::string& path) -> Result<> {
    if (umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL ||
        errno == ENOENT)
      return {};
    return Error::from_errno(errno, cat("umount2(", quote(path, 1024), ")"));
  };
  for (const std::string_view file : kNamespaceFiles)
    FLUYT_TRY(unmount(namespace_path(state_dir, file)));
  return unmount(cat(state_dir, "/", kNamespaceFolder));
}

}  // namespace fluyt::monitor
