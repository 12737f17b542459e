#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/strings.h"
#include "base/trace.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/channel.h"
#include "runtime/container.h"
#include "runtime/first_process.h"
#include "runtime/hooks.h"
#include "runtime/plan.h"
#include "runtime/prepare.h"
#include "runtime/resctrl.h"
#include "runtime/supervise.h"
#include "runtime/undo.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/mount.h"
#include "sys/socket.h"

namespace fluyt::runtime {

namespace {

oci::State state_of(const CreateRequest& request, pid_t pid) {
  oci::State state;
  state.id = request.id;
  state.status = "creating";
  state.pid = pid;
  state.bundle = request.bundle;
  state.annotations = request.spec.annotations;
  return state;
}

// The container's cgroup: what was made of it is taken away again on every error, and what was
// refused because it is somebody else's is left alone.
class CgroupGuard {
 public:
  CgroupGuard() = default;
  CgroupGuard(const CgroupGuard&) = delete;
  CgroupGuard& operator=(const CgroupGuard&) = delete;
  ~CgroupGuard() { release(); }
  void release() {
    if (made_ == CgroupRecord{}) return;
    const Deadline deadline = Deadline::after_ms(2000);
    cgroup::end(made_, deadline).ignore("the error that led here is the one to tell");
    keep();
  }
  Result<> make(const cgroup::Host& host, const CgroupRecord& record,
                const oci::Resources& resources,
                const std::map<std::string, std::string>& annotations, cgroup::Part part) {
    auto hold = FLUYT_TRY(cgroup::make(host, record, resources, annotations, part));
    made_.unit = record.unit;
    if (part != cgroup::Part::kLegacy) {
      hold_ = std::move(hold);
      made_.unified = record.unified;
    }
    if (part != cgroup::Part::kUnified) made_.legacy = record.legacy;
    return {};
  }
  void keep() { made_ = {}; }

 private:
  CgroupRecord made_;
  cgroup::Hold hold_;  // systemd's scope stays until the first process waits at the gate
};

// The first process is born in its v2 directory and enters those of v1 by itself, which are made
// while it sets itself up. Limits count the program's processes: where one more is needed to set
// up, they come once the program has its own.
Result<> limit_cgroup(const CgroupRecord& record, const Plan& plan) {
  if (plan.namespaces.fork != NamespacePlan::Fork::kNone) return {};
  FLUYT_TRY_CONTEXT(cgroup::apply(record, plan.resources), "linux.resources");
  return {};
}

bool writable_cgroup_mount(const Plan& plan) {
  for (const MountPlan& mount : plan.mounts) {
    if (mount.kind == MountKind::kCgroup && (mount.options.set & MOUNT_ATTR_RDONLY) == 0)
      return true;
  }
  return false;
}

uid_t outside_root(const NamespacePlan& namespaces) {
  for (const sys::IdRange& range : namespaces.uids) {
    if (range.inside == 0) return range.outside;
  }
  return 0;
}

std::map<std::string, std::string> unit_annotations(const CreateRequest& request) {
  if (request.unit_properties == UnitProperties::kIgnore) return {};
  return request.spec.annotations;
}

struct Start {
  sys::Process process;
  sys::Fd channel;
};

Result<Start> start_first(const CreateRequest& request, const Plan& plan, HostSide& side,
                          sys::FdRef cgroup) {
  sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
  sys::CloneRequest clone;
  clone.flags = plan.namespaces.at_clone;
  if (request.parent == ParentOf::kCallersParent) clone.flags |= CLONE_PARENT;
  clone.cgroup = cgroup;
  auto process = FLUYT_TRY_CONTEXT(sys::clone_process(clone), "linux.namespaces");
  if (!process) {
    live({.plan = plan,
          .host = side,
          .program = request.program,
          .channel = std::move(pair.second),
          .stdio = request.stdio,
          .gate = request.gate,
          .report = request.report,
          .container_init = {},
          .container_types = 0,
          .state = state_of(request, 0)});
  }
  return Start{std::move(*process), std::move(pair.first)};
}

// The error that the first process ended with, if it has said one by now.
std::optional<Error> said_error(sys::FdRef channel) {
  while (true) {
    auto packet = receive_packet(channel, Deadline::after_ms(0));
    if (!packet.ok() || !*packet) return std::nullopt;
    if ((*packet)->kind == Message::kError) return error_of(**packet);
  }
}

// What is to be ended now if we are cut short: by its start time too, for its pid may be another's
// by the time that somebody asks.
Result<> tell_made(const CreateRequest& request, Created& created, pid_t pid) {
  created.start_time = FLUYT_TRY(sys::start_time_of(pid));
  cgroup::mark(created.cgroup, {.pid = pid, .start_time = created.start_time});
  if (!request.on_made) return {};
  return request.on_made({.pid = pid,
                          .start_time = created.start_time,
                          .cgroup = created.cgroup,
                          .root_mount = created.root_mount});
}

Supervision supervision(const CreateRequest& request, const Plan& plan, Created& created) {
  Supervision how{.plan = plan,
                  .parent = request.parent,
                  .deadline = request.deadline,
                  .stop = request.stop,
                  .newlines = request.newlines,
                  .until_executed = !request.gate.valid(),
                  .on_forked = {},
                  .run_hooks = {},
                  .hand_over_listener = {}};
  how.on_forked = [&](pid_t forked) -> Result<> {
    FLUYT_TRY(tell_made(request, created, forked));
    if (created.cgroup != CgroupRecord{})
      FLUYT_TRY_CONTEXT(cgroup::apply(created.cgroup, plan.resources), "linux.resources");
    const bool late = plan.namespaces.fork == NamespacePlan::Fork::kLate;
    return late && plan.identity.scheduler ? set_scheduler(plan, forked) : Result<>();
  };
  how.run_hooks = [&](pid_t init) -> Result<> {
    const std::string state = oci::to_json(state_of(request, init));
    // In the bundle, where hooks of runc's users expect to be.
    const HookPlace place{.cwd = request.bundle, .stop = {.fd = request.stop}};
    FLUYT_TRY(run_hooks(plan.hooks.prestart, "prestart", state, place));
    return run_hooks(plan.hooks.create_runtime, "createRuntime", state, place);
  };
  how.hand_over_listener = [&](pid_t init, sys::FdRef listener) {
    return send_listener(plan.seccomp_listener_path, plan.seccomp_listener_metadata, init,
                         oci::to_json(state_of(request, init)), listener);
  };
  return how;
}

Result<Supervised> raise(const CreateRequest& request, const Plan& plan, HostSide side,
                         const cgroup::Host& host, CgroupGuard& guard,
                         const resctrl::Groups& groups, Created& created) {
  const CgroupRecord& record = created.cgroup;
  const bool has_cgroup = record != CgroupRecord{};
  const bool at_once = host.legacy.empty() || record.unit;
  auto make_cgroup = [&](cgroup::Part part) {
    return guard.make(host, record, plan.resources, unit_annotations(request), part);
  };
  std::optional<trace::Span> span(std::in_place, "cgroup");
  sys::Fd born_in;
  if (has_cgroup) {
    FLUYT_TRY(make_cgroup(at_once ? cgroup::Part::kAll : cgroup::Part::kUnified));
    if (!record.unified.empty())
      born_in = FLUYT_TRY(sys::open(record.unified, O_PATH | O_DIRECTORY));
  }
  span.emplace("first process born");
  Start start = FLUYT_TRY(start_first(request, plan, side, born_in));
  const pid_t pid = start.process.pid();
  span.emplace("limits and ids");
  // Kept until the end: of its mounts the last close waits for an RCU grace period.
  FirstGo go{.pid = pid, .cgroups = {}, .tasks = {}};
  auto open_up = [&]() -> Result<> {
    if (has_cgroup && !at_once) FLUYT_TRY(make_cgroup(cgroup::Part::kLegacy));
    if (has_cgroup) FLUYT_TRY(limit_cgroup(record, plan));
    if (groups.control.valid()) FLUYT_TRY_CONTEXT(resctrl::add(groups, pid), "linux.intelRdt");
    if (plan.namespaces.new_cgroup && host.legacy.empty() && has_cgroup &&
        writable_cgroup_mount(plan)) {
      FLUYT_TRY(cgroup::delegate(record, outside_root(plan.namespaces)));
    }
    if ((plan.namespaces.at_clone & CLONE_NEWUSER) != 0) {
      FLUYT_TRY_CONTEXT(sys::write_id_maps(pid, plan.namespaces.uids, plan.namespaces.gids),
                        "linux.uidMappings");
    }
    FLUYT_TRY(set_from_outside(plan, pid));
    // Also where it is not the one that will run the program: what it makes until it forks that is
    // not to be without an owner, mounts and hooks among it.
    FLUYT_TRY(tell_made(request, created, pid));
    go.cgroups = FLUYT_TRY(join_cgroups(plan, FLUYT_TRY(prepare_cgroups(plan, host, record))));
    go.tasks = FLUYT_TRY(cgroup::open_ways(record)).tasks;
    FLUYT_TRY(send_first_go(start.channel, go));
    return request.meanwhile ? request.meanwhile() : Result<>();
  };
  auto opened = open_up();
  if (!opened.ok()) {
    // It may have met an error of its own meanwhile, and be gone: that is why, then.
    if (auto why = said_error(start.channel)) opened = std::move(*why);
    // What it has mounted goes with its namespace.
    start.channel.reset();
    start.process.kill(9).ignore("it ends by itself too");
    if (request.parent == ParentOf::kCaller) {
      start.process.wait(Deadline::after_ms(2000)).ignore("the error above is the one to tell");
    }
    return std::move(opened).error();
  }
  NetDevices devices;
  Supervision how = supervision(request, plan, created);
  how.move_devices = [&](pid_t init) -> Result<> {
    return devices.move(plan.net_devices,
                        FLUYT_TRY(sys::open(cat("/proc/", init, "/ns/net"), O_RDONLY)));
  };
  how.bind = [&](pid_t init, size_t place, sys::FdRef source) -> Result<sys::Fd> {
    if (place >= plan.mounts.size()) return Error(Code::kInternal, "mounts: no such place");
    auto bind = bind_for(plan, side.joins, place, init, source);
    if (bind.ok()) return bind;
    const MountPlan& mount = plan.mounts.at(place);
    return std::move(bind).error().add_context(
        cat("mounts[", mount.index, "]: ", quote(mount.destination, 1024)));
  };
  span.emplace("mounts and identity");
  auto done = supervise(how, std::move(start.process), start.channel);
  if (done.ok()) devices.keep();
  return done;
}

// The lifecycle of a container that fails goes on where it is destroyed: with its poststop hooks.
Error after_failure(const CreateRequest& request, const Plan& plan, Error error) {
  oci::State state = state_of(request, 0);
  state.status = "stopped";
  const HookPlace place{.cwd = request.bundle,
                        .stop = {.fd = request.stop, .grace_ms = kLastHooksMs}};
  const std::vector<std::string> failures =
      run_all_hooks(plan.hooks.poststop, "poststop", oci::to_json(state), place);
  for (const std::string& failure : failures) {
    error = Error(error.code(), cat(error.message(), "; ", failure));
  }
  return error;
}

Result<resctrl::Groups> make_resctrl(const Plan& plan, Undo& undo) {
  if (!plan.intel_rdt) return resctrl::Groups{};
  auto root = std::make_shared<sys::Fd>(FLUYT_TRY(resctrl::open_mounted()));
  auto groups = FLUYT_TRY(resctrl::make(*root, *plan.intel_rdt, plan.id));
  undo.add([root, &plan] {
    resctrl::remove(*root, *plan.intel_rdt, plan.id)
        .ignore("the error that led here is the one to tell");
  });
  return groups;
}

// The root of a container in the caller's mount namespace: what is mounted for it is mounted here.
Result<uint64_t> watch_root(const Plan& plan, const HostSide& side, Undo& undo) {
  if (plan.namespaces.mounts != NamespacePlan::Mounts::kCallers) return uint64_t{0};
  auto root = std::make_shared<sys::Fd>(FLUYT_TRY(sys::duplicate(side.root)));
  undo.add([root] { sys::detach_mount(*root).ignore("it may not have been attached yet"); });
  return sys::mount_id(*root);
}

bool joins_user_namespace(const oci::Spec& spec) {
  if (!spec.linux_) return false;
  return std::ranges::any_of(spec.linux_->namespaces, [](const oci::Namespace& space) {
    return space.type == oci::NamespaceType::kUser && !space.path.empty();
  });
}

// Device rules come with every specification; limits are asked for.
Result<> check_unlimited(oci::Resources resources) {
  resources.devices.clear();
  if (resources == oci::Resources{}) return {};
  return Error(Code::kInvalidArgument, "linux.resources: limits need a cgroup, and none is made");
}

}  // namespace

Result<Created> create(const CreateRequest& request) {
  std::optional<trace::Span> span(std::in_place, "plan");
  HostFacts facts = FLUYT_TRY(host_facts(labels_of(request.spec)));
  // A new user namespace has what ours has, which may be one itself.
  if (!joins_user_namespace(request.spec))
    facts.groups_denied = FLUYT_TRY(sys::groups_denied(getpid()));
  const Plan plan = FLUYT_TRY(make_plan({.id = request.id,
                                         .bundle = request.bundle,
                                         .spec = &request.spec,
                                         .overlay_root = &request.overlay_root,
                                         .trees = &request.trees,
                                         .mount_places = &request.mount_places,
                                         .preserve_fds = request.preserve_fds,
                                         .no_pivot = request.no_pivot,
                                         .no_new_keyring = request.no_new_keyring,
                                         .fills_dev = request.fills_dev},
                                        facts));
  span.emplace("sources opened");
  HostSide side = FLUYT_TRY(prepare(plan));
  span.reset();
  const cgroup::Host host = request.host ? *request.host : FLUYT_TRY(cgroup::probe());
  Created created;
  if (request.cgroups == Cgroups::kMake) {
    created.cgroup =
        FLUYT_TRY_CONTEXT(cgroup::locate(host, plan.cgroups_path, plan.id, request.cgroup_driver),
                          "linux.cgroupsPath");
  } else {
    FLUYT_TRY(check_unlimited(plan.resources));
  }
  Undo undo;
  const resctrl::Groups groups = FLUYT_TRY_CONTEXT(make_resctrl(plan, undo), "linux.intelRdt");
  created.root_mount = FLUYT_TRY(watch_root(plan, side, undo));
  // Last made, first undone: it ends the processes that the others belong to.
  CgroupGuard guard;
  auto raised = raise(request, plan, std::move(side), host, guard, groups, created);
  if (!raised.ok()) {
    guard.release();
    undo.now();
    return after_failure(request, plan, std::move(raised).error());
  }
  Supervised done = std::move(*raised);
  created.init = std::move(done.process);
  created.console = std::move(done.console);
  created.warnings = plan.warnings;
  created.warnings.insert(created.warnings.end(), done.warnings.begin(), done.warnings.end());
  guard.keep();
  undo.keep();
  return created;
}

}  // namespace fluyt::runtime
