#include "runtime/checkpoint/stage.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "base/strings.h"
#include "runtime/target.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/identity.h"
#include "sys/mount.h"
#include "sys/socket.h"

namespace fluyt::runtime::checkpoint {

namespace {

constexpr const char* kFolder = "/tmp";  // CRIU makes folders of its own there too
constexpr int kHighNumber = 100;         // above every number that CRIU is told of
constexpr uint64_t kMaskAttributes =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

// A mount of the stage: its name there is the key that CRIU knows it by.
class Stage {
 public:
  explicit Stage(const StageRequest& request) : request_(request) {}
  Result<> build();

 private:
  Result<sys::Fd> add(const std::string& name, sys::FdRef mount);
  Result<> add_binds();
  Result<> add_submounts(size_t place, sys::FdRef bind);
  Result<> add_cgroups();
  Result<> add_masks();
  Result<> make_mount_points();
  Result<> make_mount_point(sys::FdRef root, size_t place);
  bool made_by_criu(const std::string& destination, size_t before) const;

  const StageRequest& request_;
  sys::Fd top_;
  sys::Fd root_;
  std::map<size_t, sys::Fd> binds_;  // by place in the plan
};

Result<sys::Fd> Stage::add(const std::string& name, sys::FdRef mount) {
  const struct stat info = FLUYT_TRY(sys::stat_of(mount));
  if (S_ISDIR(info.st_mode)) {
    if (mkdirat(top_.raw(), name.c_str(), 0700) != 0)
      return Error::from_errno(errno, cat("mkdirat(", name, ")"));
  } else {
    FLUYT_TRY(sys::open(top_, name, O_RDONLY | O_CREAT | O_EXCL, 0600));
  }
  const sys::Fd target = FLUYT_TRY(sys::open(top_, name, O_PATH | O_NOFOLLOW));
  FLUYT_TRY(sys::attach_mount(mount, target));
  return sys::open(top_, name, O_PATH | O_NOFOLLOW);
}

Result<> Stage::add_submounts(size_t place, sys::FdRef bind) {
  const auto found = request_.archive.submounts.find(place);
  if (found == request_.archive.submounts.end()) return {};
  for (size_t i = 0; i < found->second.size(); ++i) {
    // The archive's word, resolved in what the specification binds there and nowhere else.
    const sys::Fd there = FLUYT_TRY(sys::open_in(bind, found->second[i], O_PATH));
    FLUYT_TRY(add(submount_key(place, i), FLUYT_TRY(sys::clone_mount(there, sys::Depth::kOne))));
  }
  return {};
}

Result<> Stage::add_binds() {
  const Plan& plan = request_.plan;
  for (size_t i = 0; i < plan.mounts.size(); ++i) {
    if (!request_.host.mounts[i].valid()) continue;
    auto add_it = [&]() -> Result<> {
      binds_[i] = FLUYT_TRY(add(mount_key(i), request_.host.mounts[i]));
      return add_submounts(i, binds_[i]);
    };
    FLUYT_TRY_CONTEXT(add_it(), cat("mounts[", plan.mounts[i].index, "]"));
  }
  for (size_t i = 0; i < request_.host.device_nodes.size(); ++i)
    FLUYT_TRY(add(device_key(i), request_.host.device_nodes[i]));
  return {};
}

Result<> Stage::add_cgroups() {
  for (size_t i = 0; i < request_.plan.mounts.size(); ++i) {
    if (request_.plan.mounts[i].kind != MountKind::kCgroup) continue;
    for (size_t k = 0; k < request_.host.cgroups.size(); ++k)
      FLUYT_TRY(add(cgroup_key(i, k), request_.host.cgroups[k].second));
    return {};  // the plan's others show the same
  }
  return {};
}

Result<> Stage::add_masks() {
  if (request_.plan.masked_paths.empty()) return {};
  FLUYT_TRY(add(kNullKey, request_.host.null_mount));
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("tmpfs"));
  FLUYT_TRY(context.set_string("nr_inodes", "2"));
  FLUYT_TRY(context.set_string("mode", "0755"));
  FLUYT_TRY(context.set_flag("ro"));
  FLUYT_TRY(add(kEmptyKey, FLUYT_TRY(context.mount(kMaskAttributes))));
  return {};
}

// Whether the destination lies in a file system that CRIU makes with all that is in it.
bool Stage::made_by_criu(const std::string& destination, size_t before) const {
  for (size_t i = 0; i < before; ++i) {
    const MountPlan& mount = request_.plan.mounts[i];
    const bool made = mount.kind != MountKind::kBind && mount.kind != MountKind::kHostFs &&
                      mount.kind != MountKind::kRemount;
    if (made && destination.starts_with(mount.destination + "/")) return true;
  }
  return false;
}

Result<> Stage::make_mount_point(sys::FdRef root, size_t place) {
  const MountPlan& mount = request_.plan.mounts[place];
  if (mount.kind == MountKind::kRemount || made_by_criu(mount.destination, place)) return {};
  const auto bind = binds_.find(place);
  if (bind == binds_.end()) {
    const bool plain = mount.kind == MountKind::kProc || mount.kind == MountKind::kSysfs;
    FLUYT_TRY(plain ? open_plain_target(root, mount.destination, TargetKind::kDirectory)
                    : open_target(root, mount.destination, TargetKind::kDirectory));
    return {};
  }
  const struct stat info = FLUYT_TRY(sys::stat_of(bind->second));
  const sys::Fd target = FLUYT_TRY(open_target(
      root, mount.destination, S_ISDIR(info.st_mode) ? TargetKind::kDirectory : TargetKind::kFile));
  const sys::Fd copy = FLUYT_TRY(sys::clone_mount(bind->second, sys::Depth::kTree));
  return sys::attach_mount(copy, target);
}

// CRIU expects them to be there. They are made through a second view of the root, with the binds
// attached, so that what lies in a bind is made in its source; CRIU is not shown that view.
Result<> Stage::make_mount_points() {
  const sys::Fd view =
      FLUYT_TRY(add("view", FLUYT_TRY(sys::clone_mount(root_, sys::Depth::kTree))));
  // Where CRIU puts the old root for a moment: it can make no folder in a read-only one.
  if (request_.plan.root_read_only) FLUYT_TRY(open_target(view, "/tmp", TargetKind::kDirectory));
  for (size_t i = 0; i < request_.plan.mounts.size(); ++i) {
    FLUYT_TRY_CONTEXT(make_mount_point(view, i),
                      cat("mounts[", request_.plan.mounts[i].index,
                          "]: ", quote(request_.plan.mounts[i].destination, 1024)));
  }
  return {};
}

// procfs stays as it is: CRIU writes the container's settings there.
Result<> shut_the_host() {
  const sys::Fd all = FLUYT_TRY(sys::open("/", O_PATH | O_DIRECTORY));
  FLUYT_TRY(sys::set_mount_attributes(
      all, {.set = MOUNT_ATTR_RDONLY, .clear = 0, .propagation = 0, .user_namespace = {}},
      sys::Depth::kTree));
  const sys::Fd proc = FLUYT_TRY(sys::open("/proc", O_PATH | O_DIRECTORY));
  return sys::set_mount_attributes(
      proc, {.set = 0, .clear = MOUNT_ATTR_RDONLY, .propagation = 0, .user_namespace = {}},
      sys::Depth::kOne);
}

Result<> Stage::build() {
  FLUYT_TRY(sys::set_root_propagation(MS_PRIVATE, sys::Depth::kTree));
  FLUYT_TRY_CONTEXT(shut_the_host(), "the host's mounts, as criu sees them");
  sys::FsContext context = FLUYT_TRY(sys::FsContext::open("tmpfs"));
  FLUYT_TRY(context.set_string("mode", "0700"));
  const sys::Fd fs = FLUYT_TRY(context.mount(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  const sys::Fd place = FLUYT_TRY(sys::open(kFolder, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  FLUYT_TRY(sys::attach_mount(fs, place));
  top_ = FLUYT_TRY(sys::open(kFolder, O_PATH | O_DIRECTORY));
  root_ = FLUYT_TRY(add("root", request_.host.root));
  FLUYT_TRY(add_binds());
  FLUYT_TRY(add_cgroups());
  FLUYT_TRY(add_masks());
  return make_mount_points();
}

// Number 4 and up in CRIU: the namespaces to restore into, in the plan's order.
int number_of_join(size_t index) { return kCriuSocket + 1 + static_cast<int>(index); }

Result<> place_descriptors(const StageRequest& request, sys::FdRef socket) {
  const sys::Fd null = FLUYT_TRY(sys::open("/dev/null", O_RDWR));
  const auto or_null = [&](sys::FdRef fd) { return fd.valid() ? fd : null.ref(); };
  std::vector<std::pair<sys::FdRef, int>> moves = {{or_null(request.stdio.in), 0},
                                                   {or_null(request.stdio.out), 1},
                                                   {or_null(request.stdio.err), 2},
                                                   {socket, kCriuSocket}};
  for (size_t i = 0; i < request.host.joins.size(); ++i)
    moves.emplace_back(request.host.joins[i], number_of_join(i));
  std::vector<sys::Fd> high;
  for (const auto& [from, to] : moves) {
    high.emplace_back(fcntl(from.raw(), F_DUPFD_CLOEXEC, kHighNumber));
    if (!high.back().valid()) return Error::from_errno(errno, "fcntl(F_DUPFD_CLOEXEC)");
  }
  FLUYT_TRY(sys::close_on_exec_from(0));
  for (size_t i = 0; i < moves.size(); ++i)
    FLUYT_TRY(sys::place_descriptor(high[i], moves[i].second));
  return {};
}

// The child: it has been moved into the container's cgroup when `go` says a word.
Error become_criu(const StageRequest& request, const std::string& program, sys::FdRef socket,
                  sys::FdRef go) {
  auto prepare = [&]() -> Result<> {
    char word = 0;
    if (FLUYT_TRY(sys::read_some(go, {&word, 1})) != 1)
      return Error(Code::kCancelled, "nobody waits for it");
    if (request.new_cgroup_namespace) FLUYT_TRY(sys::unshare_namespaces(CLONE_NEWCGROUP));
    Stage stage(request);
    FLUYT_TRY(stage.build());
    return place_descriptors(request, socket);
  };
  auto prepared = prepare();
  if (!prepared.ok()) return std::move(prepared).error();
  sys::reset_signals();
  const char* path = getenv("PATH");
  return sys::execute(program, {program, "swrk", std::to_string(kCriuSocket)},
                      {cat("PATH=", path == nullptr ? "/usr/sbin:/usr/bin:/sbin:/bin" : path)});
}

}  // namespace

Result<Criu> start_on_stage(const StageRequest& request) {
  const std::string program = FLUYT_TRY(find_criu());
  sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  sys::Pipe go = FLUYT_TRY(sys::make_pipe());
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  sys::CloneRequest clone;
  clone.flags = CLONE_NEWNS;
  auto process = FLUYT_TRY(sys::clone_process(clone));
  if (!process) {
    go.write.reset();
    const Error why = become_criu(request, program, pair.second, go.read);
    sys::write_all(report.write, why.message()).ignore("then it is told as an early end");
    _exit(1);
  }
  go.read.reset();
  report.write.reset();
  pair.second.reset();
  Criu criu(std::move(*process), std::move(pair.first), request.stop);
  FLUYT_TRY(request.enter_cgroup(criu.process().pid()));
  FLUYT_TRY(sys::write_all(go.write, "g"));
  // Closed by execve(2), or with the sentence of what went wrong.
  const std::string why = FLUYT_TRY(sys::read_all(report.read, 1U << 16U));
  if (!why.empty()) return Error(Code::kFailedPrecondition, why);
  return criu;
}

void describe_stage(const StageRequest& request, CriuOptions& options) {
  options.root = cat(kFolder, "/root");
  const auto add = [&](const std::string& key) {
    options.external_mounts.emplace_back(key, cat(kFolder, "/", key));
  };
  const Plan& plan = request.plan;
  bool cgroups_named = false;
  for (size_t i = 0; i < plan.mounts.size(); ++i) {
    if (request.host.mounts[i].valid()) add(mount_key(i));
    const auto below = request.archive.submounts.find(i);
    if (below != request.archive.submounts.end()) {
      for (size_t k = 0; k < below->second.size(); ++k) add(submount_key(i, k));
    }
    if (plan.mounts[i].kind != MountKind::kCgroup || cgroups_named) continue;
    cgroups_named = true;
    for (size_t k = 0; k < request.host.cgroups.size(); ++k) add(cgroup_key(i, k));
  }
  for (size_t i = 0; i < request.host.device_nodes.size(); ++i) add(device_key(i));
  if (!plan.masked_paths.empty()) {
    add(kNullKey);
    add(kEmptyKey);
  }
  for (size_t i = 0; i < plan.namespaces.joins.size(); ++i) {
    const uint64_t type = plan.namespaces.joins[i].type;
    if (type == CLONE_NEWNET) options.inherited.emplace_back(kNetworkKey, number_of_join(i));
    if (type == CLONE_NEWPID) options.inherited.emplace_back(kPidKey, number_of_join(i));
    const std::string file = cat("/proc/", getpid(), "/fd/", request.host.joins[i].raw());
    if (type == CLONE_NEWIPC) options.joins.emplace_back("ipc", file);
    if (type == CLONE_NEWUTS) options.joins.emplace_back("uts", file);
    if (type == CLONE_NEWTIME) options.joins.emplace_back("time", file);
  }
  for (size_t i = 0; i < request.archive.descriptors.size(); ++i) {
    const std::string& key = request.archive.descriptors[i];
    if (!key.empty()) options.inherited.emplace_back(key, static_cast<int>(i));
  }
}

}  // namespace fluyt::runtime::checkpoint
