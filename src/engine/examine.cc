#include <dirent.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "base/escapes.h"
#include "base/strings.h"
#include "engine/cgroup_parent.h"
#include "engine/core.h"
#include "engine/finding.h"
#include "engine/root_names.h"
#include "engine/sandbox_files.h"
#include "runtime/cgroup/cgroup.h"
#include "spec/container_spec.h"
#include "sys/file.h"
#include "sys/process.h"

/// What is there of ours that no record names, and what a record names that is not there.
namespace fluyt::engine {
namespace {

constexpr int64_t kMendMs = 10'000;
constexpr size_t kMaxMountInfo = 64UL << 20U;
constexpr size_t kMaxCommandLine = 64UL << 10U;
constexpr size_t kIdLength = 64;

bool looks_like_id(std::string_view name) {
  return name.size() == kIdLength &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// What is known, read before the host is looked at: what a verb makes meanwhile is on record
/// first, so a second look at the records (`is_known`) tells it from a leak.
class Examiner {
 public:
  Examiner(Engine::Core& core, Repair repair) : core_(core), repair_(repair) {}

  std::vector<Finding> run() {
    records();
    monitors();
    folders();
    cgroups();
    network();
    sandboxes();
    containers();
    return std::move(findings_);
  }

 private:
  bool is_sandbox(const std::string& id) { return core_.knows_sandbox(id); }
  bool is_container(const std::string& id) { return core_.knows_container(id); }

  template <class Mend>
  void found(Finding finding, Mend&& mend) {
    if (repair_ == Repair::kYes && finding.mendable) {
      const Result<> mended = std::forward<Mend>(mend)();
      finding.mended = mended.ok();
      if (!mended.ok()) finding.failure = mended.error().message();
      core_.logger.info(cat("doctor: ", finding.name, ": ", finding.what, ": ",
                            mended.ok() ? "mended" : finding.failure));
    }
    findings_.push_back(std::move(finding));
  }

  void records() {
    std::vector<BrokenRecord> all = *core_.broken.lock();
    // With a sandbox its containers end: their roots are in use until then.
    std::ranges::stable_partition(all, [](const auto& one) { return one.kind == "sandbox"; });
    for (const auto& record : all) {
      found({.kind = Finding::Kind::kRecord,
             .name = cat(record.kind, " ", record.id),
             .what = cat("its record was set aside: ", record.reason),
             .mend = "fluyt doctor --repair, which forgets it and removes what it left"},
            [&]() -> Result<> {
              FLUYT_TRY(remove_what_is_of(record));
              FLUYT_TRY(core_.store->erase_broken(record));
              std::erase_if(*core_.broken.lock(), [&](const BrokenRecord& other) {
                return other.kind == record.kind && other.id == record.id;
              });
              return {};
            });
    }
  }

  Result<> remove_what_is_of(const BrokenRecord& record) {
    if (record.kind == "sandbox") return remove_folder(record.id);
    if (core_.is_set_aside("sandbox", record.sandbox_id))
      return Error(Code::kFailedPrecondition, "its sandbox has not ended");
    // It may run, in whichever sandbox.
    for (const auto& entry : core_.sandboxes()) {
      const auto client = FLUYT_TRY(Engine::Core::find_client(*entry));
      if (client && !client->lost())
        FLUYT_TRY(client->remove(record.id, Deadline::after_ms(kMendMs)));
    }
    return remove_roots_of(record.id);
  }

  Result<> remove_roots_of(const std::string& container) {
    for (const auto& root : FLUYT_TRY(core_.parts.images->list_roots())) {
      if (container_of_root(root) == container) FLUYT_TRY(core_.parts.images->remove_root(root));
    }
    return {};
  }

  Result<> remove_folder(const std::string& id) {
    const std::string dir = core_.sandbox_dir(id);
    FLUYT_TRY(monitor::clean_after(core_.monitor_dir(id), Deadline::after_ms(kMendMs)));
    FLUYT_TRY(unmount_shm(dir));
    FLUYT_TRY(unmount_below(dir));
    return sys::remove_tree(dir);
  }

  /// The innermost first.
  Result<> unmount_below(const std::string& dir) {
    auto points = FLUYT_TRY(mounts_below(dir));
    std::ranges::sort(points, std::greater<>());
    for (const auto& point : points) {
      if (::umount2(point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0 && errno != EINVAL &&
          errno != ENOENT)
        return Error::from_errno(errno, cat("umount2(", quote(point), ")"));
    }
    return {};
  }

  static Result<std::vector<std::string>> mounts_below(const std::string& dir) {
    std::vector<std::string> points;
    const std::string text = FLUYT_TRY(sys::read_file("/proc/self/mountinfo", kMaxMountInfo));
    for (const std::string_view line : split(text, '\n')) {
      const auto words = split_words(line);
      if (words.size() < 5) continue;
      std::string point = undo_octal_escapes(words[4]);
      if (point.starts_with(dir + "/")) points.push_back(std::move(point));
    }
    return points;
  }

  /// Every fluyt-monitor below our state folder: {pid, sandbox}.
  std::vector<std::pair<pid_t, std::string>> running_monitors() {
    std::vector<std::pair<pid_t, std::string>> all;
    const auto names = sys::list_dir("/proc");
    for (const auto& name : names.ok() ? *names : std::vector<std::string>()) {
      const auto pid = parse_number<pid_t>(name);
      if (!pid) continue;
      const auto line = sys::read_file(cat("/proc/", *pid, "/cmdline"), kMaxCommandLine);
      if (!line.ok()) continue;
      const auto words = split(*line, '\0');
      if (words.size() < 4 || words[0] != "fluyt-monitor") continue;
      const std::string id(words[1]);
      if (words[2] == core_.monitor_dir(id)) all.emplace_back(*pid, id);
    }
    return all;
  }

  void monitors() {
    for (const auto& [pid, id] : running_monitors()) {
      if (is_sandbox(id)) continue;
      found({.kind = Finding::Kind::kProcess,
             .name = cat("pid ", pid),
             .what = cat("is the monitor of sandbox ", id, ", which no record names"),
             .mend = "fluyt doctor --repair, which ends it and what runs below it"},
            [&, pid, id]() -> Result<> {
              if (sys::exists(core_.monitor_dir(id))) return remove_folder(id);
              auto process = FLUYT_TRY(sys::Process::open(pid));
              return process.kill(9);
            });
    }
  }

  void folders() {
    const std::string top = core_.options.state + "/sandboxes";
    const auto names = sys::list_dir(top);
    for (const auto& id : names.ok() ? *names : std::vector<std::string>()) {
      if (is_sandbox(id)) continue;
      found({.kind = Finding::Kind::kFolder,
             .name = cat(top, "/", id),
             .what = "is of a sandbox that no record names",
             .mend = "fluyt doctor --repair, which ends what runs there and removes it"},
            [&]() { return remove_folder(id); });
    }
    const auto points = mounts_below(top);
    for (const auto& point : points.ok() ? *points : std::vector<std::string>()) {
      const std::string rest = point.substr(top.size() + 1);
      const std::string id = rest.substr(0, rest.find('/'));
      bool stopped = false;
      if (const auto entry = core_.get_sandbox(id); entry.ok())
        stopped = (*entry)->value()->state == SandboxState::kNotReady &&
                  !(*entry)->value()->network_attached;
      if (is_sandbox(id) && !stopped) continue;
      found({.kind = Finding::Kind::kMount,
             .name = point,
             .what = stopped ? "is of a sandbox that is not ready" : "is of no sandbox",
             .mend = cat("fluyt doctor --repair, or umount ", point)},
            [&]() { return unmount_below(point.substr(0, point.rfind('/'))); });
    }
  }

  /// Directories named by an id of ours in a parent where we make such.
  void cgroups() {
    std::set<std::string> pods = {core_.now()->default_cgroup_parent};
    for (const auto& entry : core_.sandboxes()) {
      const std::string& parent = entry->value()->config.cgroup_parent;
      if (!parent.empty()) pods.insert(parent);
    }
    for (const std::string& parent : pods)
      cgroups_in(parent, spec::kScopePrefix, "container",
                 [this](const std::string& id) { return is_container(id) || is_sandbox(id); });
    cgroups_in(core_.now()->monitor_cgroup_parent, kMonitorPrefix, "sandbox",
               [this](const std::string& id) {
                 const auto entry = core_.get_sandbox(id);
                 return entry.ok() || is_sandbox(id);
               });
  }

  /// "ID", or with systemd "PREFIX-ID.scope".
  static std::string id_in(std::string_view name, CgroupDriver driver, std::string_view prefix) {
    constexpr std::string_view kScope = ".scope";
    if (driver == CgroupDriver::kSystemd) {
      if (!name.starts_with(cat(prefix, "-")) || !name.ends_with(kScope)) return {};
      name = name.substr(prefix.size() + 1, name.size() - prefix.size() - 1 - kScope.size());
    }
    return looks_like_id(name) ? std::string(name) : std::string();
  }

  template <class IsKnown>
  void cgroups_in(const std::string& parent, std::string_view prefix, std::string_view kind,
                  IsKnown&& is_known) {
    const auto& host = *core_.cgroup_host;
    const auto driver =
        parent.ends_with(".slice") ? CgroupDriver::kSystemd : CgroupDriver::kCgroupfs;
    const auto directory = parent_directory(driver, parent);
    if (!directory.ok()) return;
    std::set<std::string> ids;
    std::vector<std::string> tops;
    if (!host.unified.empty()) tops.push_back(host.unified);
    for (const auto& legacy : host.legacy) tops.push_back(legacy.mount_point);
    for (const std::string& top : tops) {
      const auto names = sys::list_dir(cat(top, *directory));
      for (const auto& name : names.ok() ? *names : std::vector<std::string>()) {
        if (std::string id = id_in(name, driver, prefix); !id.empty()) ids.insert(std::move(id));
      }
    }
    for (const std::string& id : ids) {
      if (is_known(id)) continue;
      const std::string path = driver == CgroupDriver::kSystemd
                                   ? cat(slice_name(parent), ":", prefix, ":", id)
                                   : cat(*directory, "/", id);
      const auto record = runtime::cgroup::locate(host, path, id, runtime::cgroup::driver_of(path));
      if (!record.ok()) continue;
      const size_t count = processes_in(*record);
      // One with processes may be another engine's: nobody's processes are ended on a guess.
      found({.kind = Finding::Kind::kCgroup,
             .name = cat(parent, "/", id),
             .what = count == 0 ? cat("is empty and of no ", kind)
                                : cat("holds ", count, " processes, and no ", kind,
                                      " of that id is on record"),
             .mend = count == 0 ? "fluyt doctor --repair, which removes it"
                                : "looking whose they are, and ending them",
             .mendable = count == 0},
            [&]() { return runtime::cgroup::remove(*record, Deadline::after_ms(kMendMs)); });
    }
  }

  /// What plugins hold for a sandbox that no record names: leases, packet rules.
  void network() {
    network::Network& network = *core_.parts.network;
    const auto exists = [this](const std::string& id) { return is_sandbox(id); };
    const auto leftovers = network.find_leftovers(exists, Deadline::after_ms(kMendMs));
    if (!leftovers.ok()) return core_.log_if_failed(leftovers.error(), "doctor: network");
    for (const std::string& leftover : *leftovers) {
      found({.kind = Finding::Kind::kNetwork,
             .name = leftover,
             .what = "belongs to no sandbox",
             .mend = "fluyt doctor --repair, which has the plugins collect it"},
            [&]() { return network.collect(exists, Deadline::after_ms(kMendMs)); });
    }
  }

  /// In whichever hierarchy: what is left over need not be in all of them.
  static size_t processes_in(const runtime::CgroupRecord& record) {
    size_t most = 0;
    for (const auto& part : {runtime::CgroupRecord{.unified = record.unified, .legacy = {}},
                             runtime::CgroupRecord{.unified = {}, .legacy = record.legacy}}) {
      const auto pids = runtime::cgroup::pids(part);
      most = std::max(most, pids.ok() ? pids->size() : 0);
    }
    return most;
  }

  void sandboxes() {
    for (const auto& entry : core_.sandboxes()) {
      const SandboxPtr sandbox = entry->value();
      const auto client = entry->client();
      if (sandbox->state == SandboxState::kReady && !entry->ending && (!client || client->lost())) {
        found({.kind = Finding::Kind::kSandbox,
               .name = sandbox->id,
               .what = "is ready and has no monitor that answers",
               .mend = "fluyt doctor --repair, which ends it as lost"},
              [&]() -> Result<> {
                core_.sandbox_lost(sandbox->id, kMonitorLost);
                return {};
              });
      } else if (sandbox->state == SandboxState::kNotReady && sandbox->network_attached) {
        found({.kind = Finding::Kind::kNetwork,
               .name = sandbox->id,
               .what = "is not ready, and its network is still to be detached",
               .mend = "fluyt doctor --repair, which calls DEL, or removing the sandbox"},
              [&]() -> Result<> {
                const std::scoped_lock verbs(entry->verbs);
                return core_.stop(*entry);
              });
      }
    }
  }

  void containers() {
    for (const auto& entry : core_.containers()) {
      const ContainerPtr container = entry->value();
      if (container->state != ContainerState::kRunning || container->pid <= 0) continue;
      if (sys::exists(cat("/proc/", container->pid))) continue;
      // An exit may be on its way.
      const auto later =
          entry->wait([](const Container& now) { return now.state == ContainerState::kExited; },
                      Deadline::after_ms(1'000));
      if (later->state == ContainerState::kExited) continue;
      found({.kind = Finding::Kind::kContainer,
             .name = container->id,
             .what =
                 cat("is on record as running, and its process, pid ", container->pid, ", is gone"),
             .mend = "fluyt doctor --repair, which notes its end"},
            [&]() { return note_end(*entry); });
    }
  }

  /// By its monitor's word, else as one that nobody saw.
  Result<> note_end(ContainerEntry& entry) {
    const auto client = entry.sandbox->client();
    const std::string id = entry.value()->id;
    if (client && !client->lost()) {
      for (const auto& info : FLUYT_TRY(client->list())) {
        if (info.id != id) continue;
        core_.container_told(info);
        if (entry.value()->state == ContainerState::kExited) return {};
        return Error(Code::kFailedPrecondition, "its monitor says that it runs");
      }
    }
    const std::scoped_lock order(core_.event_order);
    FLUYT_TRY(entry.note(*core_.store, [](Container& now) {
      now = lost(now, now_unix_ns());
      return true;
    }));
    core_.tell(Event::Kind::kContainerStopped, entry.sandbox->value(), entry.value());
    return {};
  }

  Engine::Core& core_;
  const Repair repair_;
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> Engine::examine(Repair repair) { return Examiner(*core_, repair).run(); }

bool Engine::may_need_root(const std::string& root_id) {
  return core_->knows_container(container_of_root(root_id));
}

}  // namespace fluyt::engine
