#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.h"
#include "base/trace.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/cgroup/files.h"
#include "runtime/cgroup/limits.h"
#include "runtime/cgroup/systemd.h"
#include "sys/clone.h"
#include "sys/file.h"

namespace fluyt::runtime::cgroup {

namespace {

constexpr mode_t kMode = 0755;

/// Of a leaf: what is there already may be systemd's scope, with the process that it was given.
enum class Owner { kUs, kSystemd };

/// Removes what was made, last first, unless kept.
class Made {
 public:
  Made() = default;
  Made(const Made&) = delete;
  Made& operator=(const Made&) = delete;
  ~Made() {
    for (auto it = directories_.rbegin(); it != directories_.rend(); ++it) ::rmdir(it->c_str());
  }
  void add(std::string directory) { directories_.push_back(std::move(directory)); }
  void keep() { directories_.clear(); }

 private:
  std::vector<std::string> directories_;
};

/// The directories from below `root` down to `path`, topmost first.
std::vector<std::string> chain(const std::string& root, const std::string& path) {
  std::vector<std::string> out;
  for (size_t at = root.size() + 1; at <= path.size(); ++at) {
    if (at == path.size() || path[at] == '/') out.push_back(path.substr(0, at));
  }
  return out;
}

/// True when it was made, false when it was there.
Result<bool> make_one(const std::string& directory, Made& made) {
  if (::mkdir(directory.c_str(), kMode) == 0) {
    made.add(directory);
    return true;
  }
  if (errno == EEXIST) return false;
  return Error::from_errno(errno, cat("mkdir(", quote(directory, 1024), ")"));
}

Error taken(std::string_view what, const std::string& directory, std::string_view why) {
  return Error(Code::kAlreadyExists, cat("linux.cgroupsPath: container's cgroup ", what, ": ",
                                         quote(directory, 1024), " ", why));
}

Error occupied(const std::string& directory) {
  return taken("is not empty", directory, "or one below holds processes: expected one of its own");
}

// The container's end is the end of all that is in its cgroup, so nobody may be in there before.
Result<> refuse_occupied(const std::string& directory) {
  // As text: of another PID namespace's processes it shows zeroes.
  const std::string procs = FLUYT_TRY(read_value(directory, "cgroup.procs"));
  std::vector<pid_t> below;
  if (trim(procs).empty()) FLUYT_TRY(collect_pids(directory, below));
  return trim(procs).empty() && below.empty() ? Result<>() : Result<>(occupied(directory));
}

// A process that is moved into a frozen cgroup stands still, and with it whoever waits for it. Also
// a new one is frozen, below one that is.
Result<> refuse_frozen(const std::string& directory, std::string_view state) {
  if (state == "THAWED") return {};
  return taken("unexpectedly frozen", directory, "or one above it was frozen: thaw it first");
}

enum class Leaf { kNew, kOld };

// A v1 cpuset starts empty, and then takes no process: each level gets what its parent has.
Result<> fill_cpuset(const std::string& root, const std::vector<std::string>& levels, Leaf leaf) {
  // A level with processors has ancestors with processors: look upwards for the first that has.
  size_t first = leaf == Leaf::kNew ? levels.size() - 1 : levels.size();
  std::string cpus;
  std::string mems;
  while (true) {
    const std::string& from = first == 0 ? root : levels[first - 1];
    cpus = trim(FLUYT_TRY(read_value(from, "cpuset.cpus")));
    mems = trim(FLUYT_TRY(read_value(from, "cpuset.mems")));
    if (first == 0 || (!cpus.empty() && !mems.empty())) break;
    --first;
  }
  for (size_t at = first; at < levels.size(); ++at) {
    FLUYT_TRY(sys::write_file(sys::kCwd, levels[at] + "/cpuset.cpus", cpus));
    FLUYT_TRY(sys::write_file(sys::kCwd, levels[at] + "/cpuset.mems", mems));
  }
  return {};
}

Result<> make_legacy(const Host::Legacy& mount, const std::string& path, Owner owner, Made& made) {
  const std::vector<std::string> levels = chain(mount.mount_point, path);
  // Usually the parent is there: try the leaf before the way to it.
  bool fresh = false;
  if (::mkdir(path.c_str(), kMode) == 0) {
    made.add(path);
    fresh = true;
  } else {
    for (const std::string& level : levels) fresh = FLUYT_TRY(make_one(level, made));
  }
  if (!fresh && owner == Owner::kUs) FLUYT_TRY(refuse_occupied(path));
  if (std::ranges::find(mount.controllers, "freezer") != mount.controllers.end()) {
    FLUYT_TRY(refuse_frozen(path, trim(FLUYT_TRY(read_value(path, "freezer.state")))));
  }
  if (std::ranges::find(mount.controllers, "cpuset") != mount.controllers.end()) {
    FLUYT_TRY(fill_cpuset(mount.mount_point, levels, fresh ? Leaf::kNew : Leaf::kOld));
  }
  return {};
}

bool contains(std::string_view list, std::string_view word) {
  const auto words = split_words(trim(list));
  return std::ranges::find(words, word) != words.end();
}

std::string enable_text(const std::vector<std::string>& controllers) {
  std::string out;
  for (const std::string& name : controllers) out += cat(out.empty() ? "+" : " +", name);
  return out;
}

// Gives the children of `directory` the controllers. What cannot be had (a parent with processes of
// its own, a realtime process in the way of cpu) shows in the leaf's cgroup.controllers, where it
// is an error only if the spec asks for it.
Result<> enable(const std::string& directory, const std::vector<std::string>& wanted) {
  const std::string present = FLUYT_TRY(read_value(directory, "cgroup.subtree_control"));
  std::vector<std::string> lacking;
  for (const std::string& name : wanted) {
    if (!contains(present, name)) lacking.push_back(name);
  }
  if (lacking.empty()) return {};
  const std::string file = directory + "/cgroup.subtree_control";
  if (sys::write_file(sys::kCwd, file, enable_text(lacking)).ok()) return {};
  for (const std::string& name : lacking) {
    sys::write_file(sys::kCwd, file, enable_text({name}))
        .ignore("seen in the leaf's cgroup.controllers");
  }
  return {};
}

/// On a pure v2 host all that limits and figures need; on a hybrid one only what the spec asks for:
/// there the v2 directory is for kill, freeze and emptiness, which need no controller.
std::vector<std::string> wanted_controllers(const Host& host, const std::vector<Need>& asked) {
  constexpr std::array<std::string_view, 8> kUseful{"cpuset",  "cpu",  "io",   "memory",
                                                    "hugetlb", "pids", "rdma", "misc"};
  std::vector<std::string> out;
  for (const std::string& name : host.controllers) {
    const bool needed =
        std::ranges::any_of(asked, [&](const Need& need) { return need.unified == name; });
    const bool useful = host.legacy.empty() && std::ranges::find(kUseful, name) != kUseful.end();
    if (needed || useful) out.push_back(name);
  }
  return out;
}

Result<> make_unified(const Host& host, const std::string& path, const std::vector<Need>& asked,
                      Owner owner, Made& made) {
  const std::vector<std::string> wanted = wanted_controllers(host, asked);
  const std::vector<std::string> levels = chain(host.unified, path);
  std::string parent = host.unified;
  bool fresh = false;
  for (const std::string& level : levels) {
    if (!wanted.empty()) FLUYT_TRY(enable(parent, wanted));
    fresh = FLUYT_TRY(make_one(level, made));
    parent = level;
  }
  const std::string events = FLUYT_TRY(read_value(path, "cgroup.events"));
  if (!fresh && owner == Owner::kUs && FLUYT_TRY(event_flag(events, "populated")))
    return occupied(path);
  const bool frozen = FLUYT_TRY(event_flag(events, "frozen"));
  return refuse_frozen(path, frozen ? "FROZEN" : "THAWED");
}

Error lacks(const Need& need, std::string_view why) {
  return Error(Code::kFailedPrecondition,
               cat(need.field, need.legacy.empty() ? ": invalid configuration" : "",
                   ": this host has no cgroup controller ",
                   quote(need.legacy.empty() ? need.unified : need.legacy), why));
}

Result<> check_mounted(const Host& host, const std::vector<Need>& asked) {
  for (const Need& need : asked) {
    if (!need.legacy.empty() && host.find_legacy(need.legacy) != nullptr) continue;
    if (!need.unified.empty() &&
        std::ranges::find(host.controllers, need.unified) != host.controllers.end())
      continue;
    return lacks(need, need.legacy.empty() ? " in its v2 hierarchy" : "");
  }
  if (host.unified.empty() && host.find_legacy("devices") == nullptr) {
    return Error(
        Code::kFailedPrecondition,
        "linux.resources.devices: this host has neither the v1 devices controller nor cgroup v2");
  }
  return {};
}

Result<> check_enabled(const Host& host, const std::string& leaf, const std::vector<Need>& asked) {
  std::optional<std::string> enabled;
  for (const Need& need : asked) {
    if (!need.legacy.empty() && host.find_legacy(need.legacy) != nullptr) continue;
    if (!enabled) enabled = FLUYT_TRY(read_value(leaf, "cgroup.controllers"));
    if (!contains(*enabled, need.unified)) {
      return lacks(need, cat(" that can be enabled for ", quote(leaf, 1024),
                             ": a cgroup above it holds processes or does not have it"));
    }
  }
  return {};
}

Result<> make_directories(const Host& host, const CgroupRecord& record,
                          const std::vector<Need>& asked, Part part) {
  const Owner owner = record.unit ? Owner::kSystemd : Owner::kUs;
  Made made;
  for (const Host::Legacy& mount : host.legacy) {
    if (part == Part::kUnified) break;
    const std::string* path = find_legacy(record, mount.controllers.front());
    if (path == nullptr || path->size() <= mount.mount_point.size()) {
      return Error(Code::kInternal,
                   cat("cgroup record has no directory for ", mount.controllers.front()));
    }
    FLUYT_TRY(make_legacy(mount, *path, owner, made));
  }
  if (!record.unified.empty() && part != Part::kLegacy) {
    FLUYT_TRY(make_unified(host, record.unified, asked, owner, made));
    FLUYT_TRY(check_enabled(host, record.unified, asked));
  }
  made.keep();
  return {};
}

// Somebody's directory where the scope's will be. It is left as it is: nothing was made yet.
Result<> refuse_taken(const CgroupRecord& record) {
  if (!record.unified.empty() && sys::exists(record.unified)) {
    const std::string events = FLUYT_TRY(read_value(record.unified, "cgroup.events"));
    if (FLUYT_TRY(event_flag(events, "populated"))) return occupied(record.unified);
    if (FLUYT_TRY(event_flag(events, "frozen"))) return refuse_frozen(record.unified, "FROZEN");
  }
  const std::string* freezer = find_legacy(record, "freezer");
  if (freezer == nullptr || !sys::exists(*freezer)) return {};
  return refuse_frozen(*freezer, trim(FLUYT_TRY(read_value(*freezer, "freezer.state"))));
}

// The scope needs a process from its first moment on: one of ours holds the place.
Result<Hold> start_scope(const SystemdUnit& unit, const oci::Resources& resources,
                         const std::map<std::string, std::string>& annotations) {
  const auto group = resources.unified.find("memory.oom.group");
  const auto policy = group != resources.unified.end() && trim(group->second) == "1"
                          ? systemd::Manager::OomPolicy::kKill
                          : systemd::Manager::OomPolicy::kContinue;
  const std::vector<systemd::Property> asked =
      FLUYT_TRY(systemd::annotation_properties(annotations));
  const trace::Span span(systemd::kSpan);
  const Deadline deadline = Deadline::after_ms(systemd::kPatienceMs);
  auto manager = FLUYT_TRY(systemd::Manager::connect(systemd::instance_of(unit), deadline));
  Hold hold(FLUYT_TRY(sys::make_sleeper()));
  FLUYT_TRY(manager.start_scope(unit, hold.pid(), policy, asked, deadline));
  return hold;
}

}  // namespace

Result<Hold> make(const Host& host, const CgroupRecord& record, const oci::Resources& resources,
                  const std::map<std::string, std::string>& annotations, Part part) {
  if (record.unit && part != Part::kAll)
    return Error(Code::kInternal, "a scope of systemd's is made whole");
  const std::vector<Need> asked = needs(resources);
  FLUYT_TRY(check_mounted(host, asked));
  Hold hold;
  if (record.unit) FLUYT_TRY(refuse_taken(record));
  if (record.unit) hold = FLUYT_TRY(start_scope(*record.unit, resources, annotations));
  auto made = make_directories(host, record, asked, part);
  if (made.ok()) return hold;
  if (record.unit) {
    hold.release();
    remove(record, Deadline::after_ms(2000)).ignore("the error above is the one to tell");
  }
  return std::move(made).error();
}

Result<Own> make_own(std::string_view path, std::string_view id,
                     const std::function<Result<>(const CgroupRecord&)>& announce) {
  Own own;
  if (path.empty()) return own;
  const Host host = FLUYT_TRY(probe());
  own.record = FLUYT_TRY(locate(host, path, id, driver_of(path)));
  if (announce) FLUYT_TRY(announce(own.record));
  own.hold = FLUYT_TRY(make(host, own.record, {}));
  auto ways = open_ways(own.record);
  if (ways.ok()) {
    own.ways = std::move(*ways);
    return own;
  }
  own.remove();
  return std::move(ways).error();
}

void Own::remove() const {
  if (record == CgroupRecord{}) return;
  end(record, Deadline::after_ms(1000)).ignore("the first error is the one that teaches");
}

Result<> delegate(const CgroupRecord& record, uid_t uid) {
  if (record.unified.empty()) return {};
  const sys::Fd dir = FLUYT_TRY(sys::open(record.unified, O_RDONLY | O_DIRECTORY));
  auto listed = sys::read_file("/sys/kernel/cgroup/delegate", 64UL << 10U);
  const std::string names =
      listed.ok() ? std::move(*listed)
                  : std::string("cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
  if (fchown(dir.raw(), uid, static_cast<gid_t>(-1)) != 0) {
    return Error::from_errno(errno, cat("fchown(", quote(record.unified, 1024), ", ", uid, ")"));
  }
  for (const std::string_view name : split(trim(names), '\n')) {
    // Listed for the whole kernel: files of controllers that are not enabled here are not there.
    if (fchownat(dir.raw(), std::string(name).c_str(), uid, static_cast<gid_t>(-1),
                 AT_SYMLINK_NOFOLLOW) != 0 &&
        errno != ENOENT) {
      return Error::from_errno(
          errno, cat("fchownat(", quote(record.unified, 1024), ", ", quote(name), ", ", uid, ")"));
    }
  }
  return {};
}

}  // namespace fluyt::runtime::cgroup
