#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/strings.h"
#include "runtime/checkpoint/archive.h"
#include "runtime/checkpoint/checkpoint.h"
#include "runtime/checkpoint/criu.h"
#include "runtime/checkpoint/folders.h"
#include "runtime/checkpoint/mountinfo.h"
#include "runtime/plan.h"
#include "runtime/prepare.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/mount.h"

namespace fluyt::runtime::checkpoint {

namespace {

constexpr const char* kLog = "dump.log";

Result<> check_parent(const Settings& settings) {
  const std::string& path = settings.parent_path;
  if (path.empty()) return {};
  const auto wrong = [&](std::string_view expected) {
    return Error(Code::kInvalidArgument,
                 cat("option --parent-path: ", quote(path, 1024), ": expected ", expected));
  };
  if (path.starts_with('/')) return wrong("a path relative to --image-path");
  struct stat info{};
  if (::stat(cat(settings.image_path, "/", path).c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
    return wrong("a folder, seen from --image-path");
  return {};
}

Result<> check_features(Criu& criu, const Settings& settings) {
  if (!settings.pre_dump && !settings.lazy_pages) return {};
  const Response features = FLUYT_TRY(criu.features());
  if (settings.pre_dump && !features.memory_tracking) {
    return Error(Code::kFailedPrecondition,
                 "option --pre-dump: the kernel does not track changed memory "
                 "(CONFIG_MEM_SOFT_DIRTY)");
  }
  if (settings.lazy_pages && !features.lazy_pages) {
    return Error(Code::kFailedPrecondition,
                 "option --lazy-pages: criu and this kernel cannot (userfaultfd)");
  }
  return {};
}

// CRIU writes into its status descriptor only when it is too old to notify.
Result<> tell_status(const Settings& settings) {
  if (settings.status_fd < 0) return {};
  FLUYT_TRY_CONTEXT(sys::write_all(sys::FdRef(settings.status_fd), std::string_view("\0", 1)),
                    "option --status-fd");
  ::close(settings.status_fd);
  return {};
}

// Namespaces that the specification names by path are not the container's: they stay, and a
// restore finds them there.
Result<> add_namespaces(const Plan& plan, CriuOptions& options) {
  for (const NamespacePlan::Join& join : plan.namespaces.joins) {
    const std::string field = cat("linux.namespaces[", join.index, "].path");
    if (join.type == CLONE_NEWUSER || join.type == CLONE_NEWNS || join.type == CLONE_NEWCGROUP) {
      return Error(Code::kUnimplemented,
                   cat(field, ": criu cannot checkpoint a container that joined one of this type"));
    }
    if (join.type != CLONE_NEWNET && join.type != CLONE_NEWPID) continue;
    const sys::Fd space = FLUYT_TRY_CONTEXT(sys::open_namespace(join.path, join.type), field);
    const struct stat info = FLUYT_TRY(sys::stat_of(space));
    const bool network = join.type == CLONE_NEWNET;
    options.external.push_back(
        cat(network ? "net[" : "pid[", info.st_ino, "]:", network ? kNetworkKey : kPidKey));
  }
  return {};
}

Result<Placed> find_mounts(const DumpRequest& request, const Plan& plan,
                           const std::vector<MountInfo>& mounts) {
  const sys::Fd root =
      FLUYT_TRY(sys::open(cat("/proc/", request.init_pid, "/root"), O_PATH | O_DIRECTORY));
  std::vector<std::string> cgroups;
  for (const auto& [name, mount] :
       FLUYT_TRY(prepare_cgroups(plan, FLUYT_TRY(cgroup::probe()), request.cgroup))) {
    cgroups.push_back(name);
  }
  return place_mounts(plan, root, cgroups, mounts);
}

// A file that the container has from its creator, on a mount that is not its own.
void add_files(const Descriptors& descriptors, const std::vector<MountInfo>& mounts,
               CriuOptions& options) {
  for (const std::string& name : descriptors) {
    if (!name.starts_with("file[")) continue;
    const std::string_view number = std::string_view(name).substr(5, name.find(':') - 5);
    const auto id = parse_number<uint64_t>(number, 16);
    bool inside = false;
    for (const MountInfo& mount : mounts) inside = inside || mount.id == id;
    if (!inside) options.external.push_back(name);
  }
}

bool stands_still(pid_t pid) {
  const std::string stat = sys::read_file(cat("/proc/", pid, "/stat"), 8192).value_or("");
  const size_t end = stat.rfind(')');
  return end != std::string::npos && end + 2 < stat.size() && stat[end + 2] == 'T';
}

// The cgroup that CRIU freezes while it attaches; nothing: it does by attaching alone. On v1 it
// waits for ever for a process that a signal has stopped.
Result<std::string> freezer_of(const CgroupRecord& cgroup) {
  if (cgroup.legacy.empty()) return cgroup.unified;
  for (const pid_t pid : FLUYT_TRY(cgroup::pids(cgroup))) {
    if (stands_still(pid)) return std::string();
  }
  for (const auto& [controller, directory] : cgroup.legacy) {
    if (controller == "freezer") return directory;
  }
  return std::string();
}

Result<CriuOptions> common_options(const DumpRequest& request, const Folders& folders) {
  CriuOptions out = options_of(request.settings, folders);
  out.log_file = kLog;
  out.pid = request.init_pid;
  out.leave_running = request.settings.leave_running;
  out.parent_image = request.settings.parent_path;
  out.track_memory = !request.settings.parent_path.empty() || request.settings.pre_dump;
  out.freeze_cgroup = FLUYT_TRY(freezer_of(request.cgroup));
  out.orphan_pts_master = true;
  return out;
}

}  // namespace

Result<> dump(const DumpRequest& request) {
  const Settings& settings = request.settings;
  const Plan plan = FLUYT_TRY(make_plan({.id = request.id,
                                         .bundle = request.bundle,
                                         .spec = &request.spec,
                                         .overlay_root = nullptr,
                                         .trees = nullptr},
                                        FLUYT_TRY(host_facts(Labels::kAsked))));
  if (plan.seccomp && plan.seccomp->notifies) {
    return Error(Code::kUnimplemented,
                 "linux.seccomp: SCMP_ACT_NOTIFY: its listener could not be restored");
  }
  Criu criu = FLUYT_TRY(Criu::start());
  FLUYT_TRY(criu.check_version());
  const Folders folders = FLUYT_TRY(open_folders(settings, FolderUse::kMake));
  FLUYT_TRY(check_parent(settings));
  FLUYT_TRY(check_features(criu, settings));
  CriuOptions options = FLUYT_TRY(common_options(request, folders));
  FLUYT_TRY(add_namespaces(plan, options));
  if (!settings.pre_dump) {
    const auto mounts = FLUYT_TRY(read_mountinfo(request.init_pid));
    const Placed placed = FLUYT_TRY(find_mounts(request, plan, mounts));
    options.external_mounts = FLUYT_TRY(external_mounts(placed, mounts));
    add_files(request.descriptors, mounts, options);
    const Archive archive{.descriptors = request.descriptors, .submounts = placed.submounts};
    FLUYT_TRY(sys::write_file_atomic(folders.images, kArchiveFile, to_json(archive), 0600));
  }
  const RequestType type = settings.pre_dump ? RequestType::kPreDump : RequestType::kDump;
  FLUYT_TRY(criu.request(
      type, options,
      [&](const Response& told, std::vector<sys::Fd>&) -> Result<> {
        return told.script == "status-ready" ? tell_status(settings) : Result<>();
      },
      folders.log(kLog)));
  return criu.finish();
}

}  // namespace fluyt::runtime::checkpoint
