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
#include <functional>
#include <utility>

#include "base/strings.h"
#include "base/trace.h"
#include "monitor/process/pod_init.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"

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
  if (plain.starts_with("user.")) {
    if (request.users.empty()) return refuse("it would change the host's users");
  } else if (is_network_sysctl(plain)) {
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

Result<> write_sysctls(const std::vector<std::pair<std::string, std::string>>& sysctls,
                       sys::FdRef proc) {
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

// In the process that is to own the namespaces.
Result<> make_namespaces(const SandboxRequest& request, sys::FdRef proc) {
  const int flags = (request.new_network ? CLONE_NEWNET : 0) |
                    (request.new_ipc ? CLONE_NEWIPC : 0) | (request.new_uts ? CLONE_NEWUTS : 0);
  if (flags != 0 && unshare(flags) != 0)
    return Error::from_errno(errno, "unshare(network, ipc, uts)");
  if (request.new_uts && !request.hostname.empty() &&
      sethostname(request.hostname.data(), request.hostname.size()) != 0) {
    return Error::from_errno(errno, cat("sethostname(", quote(request.hostname), ")"));
  }
  if (request.new_network) FLUYT_TRY(raise_loopback());
  return write_sysctls(request.sysctls, proc);
}

// A process in the sandbox's user namespace, as its root. What that namespace shall own is made by
// one that is in it, which may then mount nothing on the host: it waits while we do.
class Insider {
 public:
  static Result<Insider> start(const SandboxRequest& request, sys::FdRef users, sys::FdRef proc) {
    sys::Pipe report = FLUYT_TRY(sys::make_pipe());
    sys::Pipe hold = FLUYT_TRY(sys::make_pipe());
    auto child = FLUYT_TRY(sys::clone_process({}));
    if (!child) {
      report.read.reset();
      hold.write.reset();
      live(request, users, proc, std::move(report.write), hold.read);
    }
    Insider insider(std::move(*child), std::move(hold.write));
    report.write.reset();
    const std::string said = FLUYT_TRY(sys::read_all(report.read, 4096));
    if (said != kMade) return Error(Code::kInternal, said.empty() ? "it ended early" : said);
    return insider;
  }
  Insider(Insider&&) = default;
  Insider(const Insider&) = delete;
  Insider& operator=(const Insider&) = delete;
  Insider& operator=(Insider&&) = delete;
  ~Insider() {
    if (!hold_.valid()) return;
    hold_.reset();
    process_.wait(Deadline::never()).ignore("it has nothing left to do");
  }
  std::string namespace_file(std::string_view type) const {
    return cat("/proc/", process_.pid(), "/ns/", type);
  }

 private:
  static constexpr std::string_view kMade = "made";
  Insider(sys::Process process, sys::Fd hold)
      : process_(std::move(process)), hold_(std::move(hold)) {}

  [[noreturn]] static void live(const SandboxRequest& request, sys::FdRef users, sys::FdRef proc,
                                sys::Fd report, sys::FdRef hold) {
    auto made = [&]() -> Result<> {
      FLUYT_TRY(sys::join_namespaces(users, CLONE_NEWUSER));
      FLUYT_TRY(sys::set_ids(0, 0, std::vector<gid_t>()));
      return make_namespaces(request, proc);
    }();
    const std::string said = made.ok() ? std::string(kMade) : made.error().message();
    sys::write_all(report, said).ignore("the other side sees the end");
    report.reset();
    std::array<char, 1> byte{};
    if (made.ok()) (void)sys::read_some(hold, byte);
    _exit(0);
  }

  sys::Process process_;
  sys::Fd hold_;
};

Result<> pin_all(const SandboxRequest& request, const std::string& state_dir,
                 const std::function<std::string(std::string_view)>& source) {
  if (!request.users.empty()) FLUYT_TRY(pin(state_dir, "user", source("user")));
  if (request.new_network) FLUYT_TRY(pin(state_dir, "net", source("net")));
  if (request.new_ipc) FLUYT_TRY(pin(state_dir, "ipc", source("ipc")));
  if (request.new_uts) FLUYT_TRY(pin(state_dir, "uts", source("uts")));
  return {};
}

Result<> make_and_pin(const SandboxRequest& request, const std::string& state_dir) {
  const sys::Fd proc = request.sysctls.empty() ? sys::Fd() : FLUYT_TRY(private_procfs());
  if (request.users.empty()) {
    FLUYT_TRY(make_namespaces(request, proc));
    return pin_all(request, state_dir,
                   [](std::string_view type) { return cat("/proc/self/ns/", type); });
  }
  // First of all, so that the others belong to it; its own owner is the host's root.
  const sys::Fd users = FLUYT_TRY_CONTEXT(
      sys::make_user_namespace(request.users.uids, request.users.gids), "user namespace");
  const Insider insider =
      FLUYT_TRY_CONTEXT(Insider::start(request, users, proc), "in the user namespace");
  return pin_all(request, state_dir,
                 [&](std::string_view type) { return insider.namespace_file(type); });
}

// What the pod init is to be in and this worker is not.
Result<std::vector<JoinedNamespace>> namespaces_to_join(const SandboxRequest& request,
                                                        const std::string& state_dir) {
  std::vector<JoinedNamespace> out;
  if (request.users.empty()) return out;  // the worker itself made them
  auto add = [&](uint64_t type, std::string_view file) -> Result<> {
    out.push_back({type, FLUYT_TRY(sys::open_namespace(namespace_path(state_dir, file), type))});
    return {};
  };
  FLUYT_TRY(add(CLONE_NEWUSER, "user"));
  if (request.new_network) FLUYT_TRY(add(CLONE_NEWNET, "net"));
  if (request.new_ipc) FLUYT_TRY(add(CLONE_NEWIPC, "ipc"));
  if (request.new_uts) FLUYT_TRY(add(CLONE_NEWUTS, "uts"));
  return out;
}

Result<WorkerReply> make_all(const SandboxRequest& request, const std::string& state_dir,
                             sys::FdRef pod_init_program) {
  {
    const trace::Span span("network, ipc, uts, user");
    FLUYT_TRY(make_namespace_folder(state_dir));
    FLUYT_TRY(make_and_pin(request, state_dir));
  }
  WorkerReply reply;
  if (!request.shared_pid) return reply;

  const trace::Span span("pod init");
  const auto joined = FLUYT_TRY(namespaces_to_join(request, state_dir));
  PodInit init =
      FLUYT_TRY_CONTEXT(start_pod_init(request, state_dir, pod_init_program, joined), "pod init");
  auto pinned = pin(state_dir, "pid", cat("/proc/", init.process.pid(), "/ns/pid"));
  if (!pinned.ok()) {
    init.process.kill(SIGKILL).ignore("the sandbox is not made");
    return std::move(pinned).error();
  }
  reply.text = encode(init.record);
  reply.fds.push_back(init.process.release_pidfd());
  return reply;
}

Result<> check_ranges(std::string_view field, const std::vector<sys::IdRange>& ranges) {
  for (const sys::IdRange& range : ranges) {
    const auto fits = [&](uint32_t first) { return range.count <= UINT32_MAX - first; };
    if (range.count != 0 && fits(range.inside) && fits(range.outside)) continue;
    return Error(Code::kInvalidArgument,
                 cat(field, ": ", range.count, " ids from ", range.inside, ", on the host from ",
                     range.outside, ": expected one or more, of 32 bits"));
  }
  return {};
}

}  // namespace

Result<> check_sandbox(const SandboxRequest& request) {
  if (request.hostname.size() > kMaxHostname || has_control_characters(request.hostname)) {
    return Error(Code::kInvalidArgument,
                 cat("hostname ", quote(request.hostname),
                     ": expected at most 64 bytes without control characters"));
  }
  FLUYT_TRY(check_ranges("users.uids", request.users.uids));
  FLUYT_TRY(check_ranges("users.gids", request.users.gids));
  if (request.users.uids.empty() != request.users.gids.empty())
    return Error(Code::kInvalidArgument, "users: expected uids and gids, or neither");
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
  if (!request.users.empty()) sandbox.namespaces.user = namespace_path(state_dir, "user");
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
