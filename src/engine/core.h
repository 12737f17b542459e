#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/guarded.h"
#include "base/log.h"
#include "base/result.h"
#include "base/trace.h"
#include "engine/cpu_rates.h"
#include "engine/engine.h"
#include "engine/entry.h"
#include "engine/exec_table.h"
#include "engine/handlers.h"
#include "engine/layer_usage.h"
#include "engine/mcs_levels.h"
#include "engine/names.h"
#include "engine/store.h"
#include "engine/worker.h"
#include "sys/id_range.h"

namespace fluyt::spec {
struct Host;
}
namespace fluyt::runtime::cgroup {
struct Host;
}

namespace fluyt::engine {

/// What this host lacks that bears on what we do; probed once.
struct Host {
  int64_t oom_score_floor = -1000;  // we may not go below
  std::string no_user_namespaces;   // why pods can have none; empty: they can
  std::vector<std::string> lacks;
};
Host probe_host();

/// What the verbs share. Locks: `tables` is held for a look-up, an entry's own for a change of its
/// value; neither over anything slow, and never one inside the other's other way round (tables
/// first).
struct Engine::Core : std::enable_shared_from_this<Engine::Core> {
  Core(Options options_in, Parts parts_in, std::unique_ptr<Store> store_in, Logger& logger_in)
      : options(fixed_of(options_in)),
        changing(std::make_shared<const Options>(std::move(options_in))),
        logger(logger_in),
        store(std::move(store_in)),
        parts(std::move(parts_in)),
        layer_usage([this](const std::string& id) { return measure_layer(id); }) {}

  const Options options;  // what is fixed: folders; the rest is not in it, see now()
  Guarded<std::shared_ptr<const Options>> changing;
  Logger& logger;
  const std::unique_ptr<Store> store;
  Parts parts;
  Host host;
  std::shared_ptr<const spec::Host> spec_host;
  std::shared_ptr<const runtime::cgroup::Host> cgroup_host;
  std::string instance;
  std::string boot_id;
  Guarded<std::vector<BrokenRecord>> broken;

  struct Tables {
    std::map<std::string, SandboxEntryPtr> sandboxes;
    std::map<std::string, ContainerEntryPtr> containers;
  };
  Guarded<Tables> tables;
  Names<SandboxName> sandbox_names;
  Names<std::pair<std::string, ContainerName>> container_names;  // with the sandbox's id
  McsLevels levels;
  ExecTable execs;
  trace::Recorder traces;
  HandlerFeatures features;
  std::atomic<bool> asks_features = false;     // the worker is to ask those that have changed
  CpuRates cpu_rates;                          // of containers and sandboxes, by id
  std::atomic<uint64_t> log_bytes_dropped{0};  // of containers that have ended since our start

  struct Handler {
    std::mutex mutex;  // held through a call: once a subscription is gone, nothing of it runs
    std::function<void(const Event&)> function;
  };
  Guarded<std::vector<std::weak_ptr<Handler>>> handlers;
  /// Held over a change together with the telling of it: whoever listens hears everything in the
  /// order in which it happened, with the other containers as they were then. Taken before every
  /// lock but an entry's `verbs`, and never over a call to a monitor.
  std::mutex event_order;

  // Declared last: these end before what they use.
  LayerUsage layer_usage;
  /// Slow work that nobody waits for.
  Worker worker;
  /// Ends what lost sandboxes left: one that hangs must not hold up the others.
  Worker enders{8};
  /// Slow work that waits for network plugins, which may hang.
  Worker network_worker;
  /// And for monitors that replace themselves.
  Worker renewer;

  /// All options as they are in force: a verb takes them once.
  std::shared_ptr<const Options> now() const { return *changing.lock(); }
  static Options fixed_of(const Options& options);
  /// Of a pod's start: as long as it lives, pulls give way.
  std::optional<sys::Precedence::Count> begin_call() const {
    if (!parts.precedence) return std::nullopt;
    return sys::Precedence::begin_call(parts.precedence);
  }

  // Look-ups (core.cc): by whole id or unique prefix; what is being created is not found.
  Result<SandboxEntryPtr> get_sandbox(const std::string& id);
  Result<ContainerEntryPtr> get_container(const std::string& id);
  /// For a create that joined another: `id` is delivered where its caller is there to get it.
  template <class Get>
  Result<std::string> joined(Get get, Result<std::string> id, const GivenUp& given_up) {
    if (!id.ok() || is_given_up(given_up)) return id;
    if (const auto entry = (this->*get)(*id); entry.ok()) (*entry)->undelivered = false;
    return id;
  }
  static bool is_given_up(const GivenUp& given_up) { return given_up && given_up(); }
  std::vector<SandboxEntryPtr> sandboxes();
  std::vector<ContainerEntryPtr> containers();
  std::vector<ContainerEntryPtr> containers_of(const std::string& sandbox_id);
  /// The client of a sandbox's monitor; null where the sandbox has ended. kUnavailable while a
  /// ready one's monitor does not answer and could not be adopted yet.
  static Result<std::shared_ptr<monitor::Client>> find_client(const SandboxEntry& entry);
  /// Whether there is a record of it that could not be read.
  bool is_set_aside(std::string_view kind, const std::string& id);
  /// By its whole id: whether a record may name it, be it half made, or the record one that cannot
  /// be read. What is not known is left over.
  bool knows_sandbox(const std::string& id);
  bool knows_container(const std::string& id);

  // Creates (run_sandbox.cc, create_container.cc). What was made on an error is the caller's to
  // undo.
  /// Everything between the record and READY: of a new sandbox, or of one that has stopped.
  Result<> make_sandbox(SandboxEntry& entry);
  Result<image::Image> image_of(const std::string& name);
  /// The node's rules for images, as they are now and for this pod's namespace: an image that is
  /// here may have come for another, or before the rules changed.
  Result<> admit_images(const Sandbox& sandbox, const ContainerConfig& config,
                        const image::Image& image);
  /// Everything between the record and CREATED: of a new container, or of one that has exited, over
  /// the root that it left.
  Result<> make_container(ContainerEntry& entry, const image::Image& image);
  /// With the sandbox's `verbs` and the container's (recreate_container.cc).
  Result<> make_again(ContainerEntry& entry);

  // What monitors tell (monitor_events.cc).
  monitor::Events events_for(const std::string& sandbox_id);
  void container_told(const monitor::ContainerInfo& info);
  void note_and_tell(ContainerEntry& entry, const monitor::ContainerInfo& info);
  /// The sandbox is not ready any more, and nobody asked for that: false when that is no news, or
  /// when whoever makes it is to undo it.
  bool note_lost(SandboxEntry& entry, std::string_view reason);
  /// Notes it and ends what is left, before it returns.
  void sandbox_lost(const std::string& sandbox_id, std::string_view reason);
  /// Notes it at once: whoever sees a container's end in this moment is not to find the sandbox
  /// ready. The rest is done behind, for it takes a lock that a verb may hold for long.
  void sandbox_told_lost(const std::string& sandbox_id, std::string_view reason);
  void end_lost(const SandboxEntryPtr& entry);
  SandboxEntryPtr find_sandbox(const std::string& id);  // by its whole id; none: null

  // A sandbox's own container (sandbox_container.cc).
  /// Makes and starts it, in the sandbox's namespaces; they are there, with the network.
  Result<> make_sandbox_container(const Sandbox& sandbox, monitor::Client& client);
  /// What a monitor says of what may be one.
  void sandbox_container_told(const monitor::ContainerInfo& info);

  /// Waits until `of`, a value of the entry, has exited or was made again, or until the deadline or
  /// the loss of its monitor: whether it has ended.
  bool wait_exit(ContainerEntry& entry, const Container& of, Deadline deadline);
  /// SIGKILL to every process, until the exit is known: with the monitor, or without one that does
  /// not answer, whose sandbox is then lost. kDeadlineExceeded names what the kernel does not kill.
  enum class By { kStop, kOther };  // kStop: whoever stops the sandbox, and notes all exits after
  Result<> kill(ContainerEntry& entry, By whom);
  Result<> end_without_monitor(ContainerEntry& entry, By whom);
  void ask_exit(ContainerEntry& entry, monitor::Client& client);
  /// Of one whose end nobody saw; nothing where it is not `of` any more, but was made again.
  void note_unseen_exit(ContainerEntry& entry, const Container& of);

  // Ends of things (teardown.cc), each idempotent.
  Result<> kill_containers(const std::string& sandbox_id);
  Result<> detach_network(SandboxEntry& entry);
  Result<> end_monitor(SandboxEntry& entry);
  Result<> note_stopped(SandboxEntry& entry);
  /// With an error from the network the sandbox counts as stopped, and DEL stays owed.
  Result<> stop(SandboxEntry& entry);
  Result<> undo_sandbox(SandboxEntry& entry);
  /// What was made goes; what cannot go stays visible, with its name, to be stopped and removed.
  void undo_or_show(SandboxEntry& entry);
  Result<> undo_container(ContainerEntry& entry);
  /// Of a sandbox, with its `verbs`: stops it and forgets it with its containers.
  Result<> remove(SandboxEntry& entry);
  /// Of a container that does not run. Twice is success.
  Result<> remove_ended(ContainerEntry& entry);
  /// Behind the calls: ends a sandbox that lives as long as its containers, once all of them have
  /// exited, and tries again where that fails (sandbox_lifetime.cc).
  void end_with_containers_later(const SandboxEntryPtr& entry);
  Result<> end_with_containers(SandboxEntry& entry);
  /// A container's root, and what its image volumes hold.
  Result<> remove_roots(const Container& container);
  void forget_sandbox(const Sandbox& sandbox);
  void forget_container(const Container& container);

  Result<> recover();  // recover.cc
  /// The monitor of a ready sandbox that has no client, with what happened while nobody heard it;
  /// nothing where there is one. kNotFound when the monitor is gone: the sandbox is lost then. Any
  /// other error says why it does not answer: kUnavailable, when it stands still. Not with the
  /// sandbox's `verbs`.
  Result<> adopt(SandboxEntry& entry);
  /// Tries that behind the calls until it has an outcome (renew_monitors.cc).
  void adopt_later(const SandboxEntryPtr& entry);
  /// Behind the start (owed_network.cc): the DELs that are owed, then what belongs to no sandbox.
  void detach_later(const SandboxEntryPtr& entry);
  void collect_later();
  /// Has each monitor of another release replace itself, one at a time, behind the calls.
  void renew_monitors();  // renew_monitors.cc
  monitor::LaunchOptions launch_options(const Sandbox& sandbox) const;

  // Handlers (handler_status.cc). A program that was replaced is asked again behind the answer.
  std::vector<HandlerStatus> handler_statuses();
  /// Whether a pod of this handler can have a user namespace of its own here.
  bool can_have_users(const std::string& handler) const;
  /// Whether pods of this handler have a container of their own.
  bool wants_sandbox_container(const std::string& handler) const;

  /// What the image store and the file system say of a container's root (readings.cc). Walks it:
  /// layer_usage's thread alone.
  Result<DiskUsage> measure_layer(const std::string& container_id);

  /// With `event_order` held.
  void tell(Event::Kind kind, SandboxPtr sandbox, ContainerPtr container = {});
  void tell(const Event& event);
  /// Calls `change` and tells `kind` of the sandbox's new value when it succeeded.
  Result<> change_and_tell(SandboxEntry& entry, Event::Kind kind,
                           const std::function<Result<>()>& change);
  void tell_image(Event::Kind kind, const std::string& id);
  /// For what has happened and could not be recorded: said in the log, the verb goes on.
  void log_if_failed(const Result<>& result, std::string_view what);

  // Folders.
  std::string sandbox_dir(const std::string& id) const {
    return options.state + "/sandboxes/" + id;
  }
  std::string monitor_dir(const std::string& id) const { return sandbox_dir(id) + "/monitor"; }
  /// On disk: a checkpoint is as large as its container's memory.
  std::string checkpoint_dir() const { return options.root + "/checkpoints"; }
  std::string bundle_dir(const std::string& sandbox_id, const std::string& id) const {
    return sandbox_dir(sandbox_id) + "/bundles/" + id;
  }
};

/// As the parts below want them; none for the host's user namespace.
sys::IdMaps id_maps(const std::optional<UserIds>& users);
/// What CNI is told of a sandbox, at ADD and again at DEL.
network::SandboxNetwork network_of(const Sandbox& sandbox);
/// `container` with what its monitor says of it. Never goes back: an exit is final.
Container merged(Container container, const monitor::ContainerInfo& info);
/// Whether both are of one making: a container that is made again keeps its id alone.
bool is_same_making(const Container& one, const Container& other);
/// A program that the image does not have is the request's fault: kNotFound would say to the caller
/// that the container is not there.
Error about_program(Error error);
/// Why a sandbox is not ready, or a container has ended, where that is so.
inline constexpr std::string_view kMonitorLost = "MonitorLost";
inline constexpr std::string_view kPodInitEnded = "PodInitEnded";
inline constexpr std::string_view kSandboxContainerEnded = "SandboxContainerEnded";
/// An exit that nobody saw, at the hands of who ended it: 137, MonitorLost.
Container lost(Container container, int64_t now_unix_ns);
/// An exit with the whole machine: 255, Unknown.
Container lost_with_boot(Container container, int64_t now_unix_ns);

}  // namespace fluyt::engine
