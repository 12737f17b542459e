#include "monitor/process/dump_container.h"

#include <array>
#include <cstdio>
#include <optional>

#include "base/strings.h"
#include "monitor/protocol/cgroup.h"
#include "oci/runtime_spec.h"
#include "runtime/checkpoint/checkpoint.h"
#include "sys/file.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxFdInfo = 64UL << 10U;

/// CRIU's name of a file that is open in the process: "file[mount:inode]", both in hexadecimal. Out
/// of fdinfo, so that the file itself is not touched.
std::string file_name_of(pid_t pid, int number) {
  const auto text = sys::read_file(cat("/proc/", pid, "/fdinfo/", number), kMaxFdInfo);
  if (!text.ok()) return {};
  std::optional<uint64_t> mount;
  std::optional<uint64_t> inode;
  for (const std::string_view line : split(*text, '\n')) {
    if (line.starts_with("mnt_id:")) mount = parse_number<uint64_t>(trim(line.substr(7)));
    if (line.starts_with("ino:")) inode = parse_number<uint64_t>(trim(line.substr(4)));
  }
  if (!mount || !inode) return {};
  std::array<char, 64> name{};
  (void)std::snprintf(name.data(), name.size(), "file[%llx:%llx]",
                      static_cast<unsigned long long>(*mount),
                      static_cast<unsigned long long>(*inode));
  return name.data();
}

/// What the container has of its creator at 0, 1 and 2, and a restore has to give it again: pipes,
/// or /dev/null.
runtime::checkpoint::Descriptors descriptors_of(pid_t pid) {
  runtime::checkpoint::Descriptors out;
  for (int number = 0; number < 3; ++number) {
    const auto link = sys::read_link(sys::kCwd, cat("/proc/", pid, "/fd/", number));
    std::string name;
    if (link.ok() && link->starts_with("pipe:[")) name = *link;
    if (link.ok() && link->starts_with('/')) name = file_name_of(pid, number);
    out.push_back(std::move(name));
  }
  return out;
}

}  // namespace

Result<> dump_container(const ContainerInfo& container, const wire::Checkpoint& verb,
                        const std::string& spec_path) {
  runtime::checkpoint::DumpRequest request;
  request.id = container.id;
  request.bundle = verb.bundle;
  const std::string spec = FLUYT_TRY(sys::read_file(spec_path, oci::kMaxSpecBytes));
  auto parsed = oci::parse_spec(spec);
  if (!parsed.ok()) return std::move(parsed).error();
  request.spec = std::move(*parsed);
  request.init_pid = container.pid;
  request.cgroup = cgroup_in<runtime::CgroupRecord>(container);
  request.descriptors = descriptors_of(container.pid);
  request.settings.image_path = verb.folder + "/checkpoint";
  request.settings.work_path = verb.folder;
  request.settings.leave_running = true;
  request.settings.tcp_established = true;
  request.settings.ext_unix_sk = true;
  request.settings.file_locks = true;
  auto dumped = runtime::checkpoint::dump(request);
  if (!dumped.ok()) {
    // CRIU thaws what it froze; one that was killed by somebody else did not.
    const auto frozen = runtime::cgroup::frozen(request.cgroup);
    if (frozen.ok() && *frozen) {
      runtime::cgroup::thaw(request.cgroup).ignore("the dump's error is the one to tell");
    }
    return std::move(dumped).error();
  }
  return sys::write_file_atomic(sys::kCwd, verb.folder + "/spec.dump", spec, 0600);
}

}  // namespace fluyt::monitor
