#include "engine/sandbox_files.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <cerrno>
#include <utility>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/pty.h"

namespace fluyt::engine {
namespace {

constexpr size_t kMaxHostFileBytes = 1UL << 20U;

/// A file of the host, or nothing where it has none.
Result<std::string> host_file(const std::string& path) {
  auto text = sys::read_file(path, kMaxHostFileBytes);
  if (!text.ok() && text.error().code() == Code::kNotFound) return std::string();
  return text;
}

}  // namespace

std::string resolv_conf(const DnsConfig& dns) {
  std::string text;
  if (!dns.searches.empty()) text += cat("search ", join(dns.searches, " "), "\n");
  for (const auto& server : dns.servers) text += cat("nameserver ", server, "\n");
  if (!dns.options.empty()) text += cat("options ", join(dns.options, " "), "\n");
  return text;
}

std::string pod_hosts(const std::string& hostname, const std::vector<std::string>& ips) {
  std::string text =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n"
      "fe00::0\tip6-localnet\n"
      "ff00::0\tip6-mcastprefix\n"
      "ff02::1\tip6-allnodes\n"
      "ff02::2\tip6-allrouters\n";
  for (const auto& ip : ips) text += cat(ip, "\t", hostname, "\n");
  return text;
}

Result<> write_sandbox_files(const std::string& dir, const SandboxConfig& config,
                             const std::string& hostname, const std::vector<std::string>& ips) {
  const bool host_network = config.namespaces.network == NamespaceMode::kNode;
  const std::string resolv =
      config.dns.empty() ? FLUYT_TRY(host_file("/etc/resolv.conf")) : resolv_conf(config.dns);
  const std::string hosts =
      host_network ? FLUYT_TRY(host_file("/etc/hosts")) : pod_hosts(hostname, ips);
  for (const auto& [name, text] : {std::pair<std::string, std::string>{"resolv.conf", resolv},
                                   {"hosts", hosts},
                                   {"hostname", hostname + "\n"}}) {
    const std::string path = cat(dir, "/", name);
    FLUYT_TRY(sys::write_file_atomic(sys::kCwd, path, text, 0644));
    if (const auto& users = config.namespaces.user_ids) {
      const sys::Fd file = FLUYT_TRY(sys::open(path, O_RDONLY | O_NOFOLLOW));
      FLUYT_TRY_CONTEXT(sys::set_owner(file, users->uids.host_id, users->gids.host_id), path);
    }
  }
  return {};
}

Result<> mount_shm(const std::string& dir, const std::optional<UserIds>& users,
                   const std::string& label) {
  const std::string path = dir + "/shm";
  FLUYT_TRY(sys::make_dirs(path, 0755));
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("tmpfs"));
  FLUYT_TRY(context.set_string("source", "shm"));
  FLUYT_TRY(context.set_string("mode", "1777"));
  FLUYT_TRY(context.set_string("size", kShmSize));
  if (users) {
    FLUYT_TRY(context.set_string("uid", cat(users->uids.host_id)));
    FLUYT_TRY(context.set_string("gid", cat(users->gids.host_id)));
  }
  if (!label.empty()) FLUYT_TRY(context.set_string("context", label));
  const sys::Fd mount =
      FLUYT_TRY(context.mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  const sys::Fd target = FLUYT_TRY(sys::open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return sys::attach_mount(mount, target);
}

Result<> unmount_shm(const std::string& dir) {
  const std::string path = dir + "/shm";
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return {};
  // EINVAL: nothing is mounted there; ENOENT: not even the folder is.
  if (errno == EINVAL || errno == ENOENT) return {};
  return Error::from_errno(errno, cat("umount2(", path, ")"));
}

Result<std::string> host_name() {
  const std::string text = FLUYT_TRY(sys::read_file("/proc/sys/kernel/hostname", 256));
  return std::string(trim(text));
}

}  // namespace fluyt::engine
