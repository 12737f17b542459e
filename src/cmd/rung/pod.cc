#include "cmd/rung/pod.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "base/strings.h"
#include "cmd/runtime/store.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::rung {

namespace {

struct Dialect {
  const char* type;
  const char* sandbox_id;
};
constexpr std::array<Dialect, 2> kDialects = {
    {{"io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id"},
     {"io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID"}}};

const std::string* find(const oci::Spec& spec, const char* name) {
  const auto found = spec.annotations.find(name);
  return found == spec.annotations.end() ? nullptr : &found->second;
}

uint64_t inode_of(const std::string& path) {
  struct stat raw;
  return stat(path.c_str(), &raw) == 0 ? raw.st_ino : 0;
}

// Whether the container is to live in the namespace that the sandbox lives in.
bool shares(const oci::Spec& spec, oci::NamespaceType type, const char* name, pid_t sandbox) {
  const uint64_t theirs = inode_of(cat("/proc/", sandbox, "/ns/", name));
  if (theirs == 0) return false;
  const auto of_kind = [&](const oci::Namespace& space) { return space.type == type; };
  if (spec.linux_) {
    const auto& spaces = spec.linux_->namespaces;
    const auto asked = std::find_if(spaces.begin(), spaces.end(), of_kind);
    if (asked != spaces.end()) return !asked->path.empty() && inode_of(asked->path) == theirs;
  }
  return inode_of(cat("/proc/self/ns/", name)) == theirs;
}

}  // namespace

PodRole pod_role(const oci::Spec& spec) {
  PodRole out;
  for (const Dialect& dialect : kDialects) {
    const std::string* type = find(spec, dialect.type);
    if (type == nullptr) continue;
    out.is_sandbox = *type == "sandbox";
    const std::string* id = find(spec, dialect.sandbox_id);
    if (*type == "container" && id != nullptr) out.sandbox_id = *id;
    return out;
  }
  return out;
}

Result<std::optional<Sandbox>> find_sandbox(const oci::Spec& spec, const std::string& root) {
  const PodRole role = pod_role(spec);
  if (role.sandbox_id.empty()) return std::optional<Sandbox>();
  const auto folder = commands::Folder::open(root, role.sandbox_id);
  if (!folder.ok()) return std::optional<Sandbox>();
  const auto record = folder->load();
  if (!record.ok()) return std::optional<Sandbox>();
  const auto status = commands::status_of(*folder, *record);
  if (!status.ok() || *status == commands::Status::kStopped ||
      *status == commands::Status::kCreating)
    return std::optional<Sandbox>();
  if (!shares(spec, oci::NamespaceType::kNetwork, "net", record->pid) ||
      !shares(spec, oci::NamespaceType::kUser, "user", record->pid))
    return std::optional<Sandbox>();
  auto control = sys::connect_unix(cat(folder->path(), "/control.sock"), SOCK_SEQPACKET);
  if (!control.ok()) return std::optional<Sandbox>();
  return std::optional(Sandbox{std::move(*control), record->pid, record->cgroup});
}

Result<pid_t> find_child(pid_t parent, pid_t number) {
  constexpr size_t kMaxText = size_t{16} << 20;
  const std::string threads = cat("/proc/", parent, "/task");
  for (const std::string& thread : FLUYT_TRY(sys::list_dir(threads))) {
    const auto text = sys::read_file(cat(threads, "/", thread, "/children"), kMaxText);
    if (!text.ok()) continue;
    for (const std::string_view word : split_words(*text)) {
      const auto status = sys::read_file(cat("/proc/", word, "/status"), kMaxText);
      if (!status.ok()) continue;
      for (const std::string_view line : split(*status, '\n')) {
        if (!line.starts_with("NSpid:")) continue;
        const auto numbers = split_words(line);
        if (!numbers.empty() && parse_number<pid_t>(numbers.back()) == number)
          return parse_number<pid_t>(word).value_or(0);
      }
    }
  }
  return Error(Code::kNotFound, cat("process ", number, " of the sandbox's guest kernel"));
}

}  // namespace fluyt::rung
