#include <fcntl.h>

#include "base/strings.h"
#include "runtime/cgroup/cgroup.h"
#include "runtime/channel.h"
#include "runtime/container.h"
#include "runtime/first_process.h"
#include "runtime/plan.h"
#include "runtime/prepare.h"
#include "runtime/resctrl.h"
#include "runtime/supervise.h"
#include "sys/clone.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::runtime {

namespace {

uint64_t types_of(const oci::Spec& spec) {
  uint64_t types = 0;
  if (!spec.linux_) return types;
  for (const oci::Namespace& space : spec.linux_->namespaces) types |= namespace_flag(space.type);
  return types;
}

// Whether the process that joins, which is gone before the program runs, can live in our memory: in
// no PID namespace but ours, it is seen by nobody else, and a copy of our memory for it would be a
// seventh of all that an exec costs. Not where it takes on another user namespace or another clock
// (both are about memory too), or waits for us on its way; and who has a deadline may not stand
// still.
bool shares_memory(const ExecRequest& request, const Plan& plan) {
  constexpr uint64_t kOwnMemory = CLONE_NEWUSER | CLONE_NEWTIME;
  const bool told = !plan.identity.initial_cpus.empty() ||
                    (request.spec.linux_ && request.spec.linux_->intel_rdt) ||
                    (plan.seccomp && plan.seccomp->notifies);
  return request.parent == ParentOf::kCaller && request.deadline.poll_timeout_ms() < 0 &&
         (types_of(request.spec) & kOwnMemory) == 0 && !told;
}

// A plan without a root, mounts or new namespaces: what is left is joining and the process itself.
Result<Plan> plan_exec(const ExecRequest& request) {
  HostFacts facts = FLUYT_TRY(host_facts(labels_of(request.process)));
  const bool joins_user = (types_of(request.spec) & CLONE_NEWUSER) != 0;
  facts.groups_denied = FLUYT_TRY(sys::groups_denied(joins_user ? request.init_pid : getpid()));
  if (joins_user) {
    // Who joins a user namespace has every capability there.
    const caps::Set all = (caps::Set{2} << static_cast<unsigned>(facts.last_capability)) - 1;
    facts.holding = {.bounding = all, .effective = all, .inheritable = all, .permitted = all};
  }
  Plan plan;
  plan.id = request.id;
  plan.identity = FLUYT_TRY(plan_identity(request.process, facts, plan.warnings));
  FLUYT_TRY(plan_process(request.process, plan));
  if (request.process.exec_cpu_affinity) {
    const oci::ExecCpuAffinity& asked = *request.process.exec_cpu_affinity;
    plan.identity.initial_cpus =
        FLUYT_TRY(parse_number_list(asked.initial, "process.execCPUAffinity.initial"));
    plan.identity.final_cpus =
        FLUYT_TRY(parse_number_list(asked.final, "process.execCPUAffinity.final"));
  }
  if (request.spec.linux_ && request.spec.linux_->seccomp) {
    FLUYT_TRY(plan_seccomp(*request.spec.linux_->seccomp, plan));
  }
  if (request.spec.linux_) FLUYT_TRY(plan_execution(*request.spec.linux_, plan));
  plan.preserve_fds = request.preserve_fds;
  plan.new_keyring = !request.no_new_keyring;
  // Forked into the container's PID namespace last, with nothing left to take from it.
  plan.namespaces.fork = NamespacePlan::Fork::kLate;
  if ((types_of(request.spec) & CLONE_NEWUSER) != 0) {
    plan.namespaces.joins.push_back({.type = CLONE_NEWUSER, .path = {}, .index = 0});
  }
  // One in our memory does not wait for us, for we stand still.
  if (!shares_memory(request, plan)) plan.steps = {Step::kAwaitMaker};
  plan.steps.push_back(Step::kJoinContainer);
  if (plan.terminal) plan.steps.push_back(Step::kConsole);
  for (const Step step : plan_process_steps(plan)) plan.steps.push_back(step);
  return plan;
}

Result<sys::Process> open_init(const ExecRequest& request) {
  auto gone = [&](std::string_view why) {
    return Error(Code::kNotFound, cat("container ", quote(request.id), ": its first process ",
                                      request.init_pid, " ", why));
  };
  if (request.init_pid <= 0) return gone("is not known");
  auto process = sys::Process::open(request.init_pid);
  if (!process.ok()) return gone("has ended");
  // Asked after the pidfd was opened: the number can no longer change its owner unseen.
  auto now = sys::process_stat(request.init_pid);
  if (!now.ok() || now->start_time != request.init_start_time || now->ended)
    return gone("has ended");
  return process;
}

// The program's process gets into the container's cgroup in one of two ways. It enters by itself,
// which costs nothing: who joins is born in the v2 directory and enters those of v1 before it joins
// anything, so that what it forks is there and has nothing to show. Or we move it once it is there,
// which waits for an RCU grace period: to a cgroup below, into a frozen one, where who joins shall
// not stand still in our memory, or where what belongs to the process may only follow.
bool enters_itself(const ExecRequest& request, const Plan& plan) {
  return request.cgroup != CgroupRecord{} && request.below_cgroup.empty() &&
         request.below_controllers.empty() && !request.even_if_paused && !plan.identity.scheduler &&
         plan.identity.initial_cpus.empty() && plan.identity.final_cpus.empty();
}

Result<> move_to_cgroup(const ExecRequest& request, pid_t pid) {
  if (request.cgroup == CgroupRecord{}) return {};
  if (!request.below_controllers.empty())
    return cgroup::join_below_each(request.cgroup, request.below_controllers, pid);
  if (!request.below_cgroup.empty())
    return cgroup::join_below(request.cgroup, request.below_cgroup, pid);
  return cgroup::join(request.cgroup, pid, request.init_pid);
}

// A container without a mount namespace of its own has its root alone.
Result<sys::Fd> open_root_of(const ExecRequest& request) {
  if ((types_of(request.spec) & CLONE_NEWNS) != 0) return sys::Fd();
  sys::Fd root =
      FLUYT_TRY(sys::open(cat("/proc/", request.init_pid, "/root"), O_PATH | O_DIRECTORY));
  // Still the same process, so it was its root.
  FLUYT_TRY(open_init(request));
  return root;
}

enum class Entry { kByItself, kMoved };

Result<> settle(const ExecRequest& request, const Plan& plan, Entry entry, pid_t pid) {
  if (shares_memory(request, plan)) FLUYT_TRY(set_oom_score(plan, pid));
  if (entry == Entry::kMoved)
    FLUYT_TRY_CONTEXT(move_to_cgroup(request, pid), cat("exec: adding pid ", pid, " to cgroups"));
  if (!plan.identity.final_cpus.empty()) {
    FLUYT_TRY_CONTEXT(sys::set_cpu_affinity(pid, plan.identity.final_cpus),
                      "process.execCPUAffinity.final");
  } else if (plan.identity.initial_cpus.empty()) {
    // Where an initial one was given, it stays.
    sys::reset_cpu_affinity(pid).ignore("the caller's CPUs are as many as it gets");
  }
  return plan.identity.scheduler ? set_scheduler(plan, pid) : Result<>();
}

std::string state_of(const ExecRequest& request) {
  oci::State state;
  state.id = request.id;
  state.status = "running";
  state.pid = request.init_pid;
  state.bundle = request.bundle;
  state.annotations = request.spec.annotations;
  return oci::to_json(state);
}

}  // namespace

namespace {

// Everything the process that joins has. Its descriptor of the channel is a copy of its own, by
// number: nothing of ours is taken from.
FirstProcess joining(const ExecRequest& request, const Plan& plan, HostSide& side,
                     const sys::Process& init, int channel) {
  return {.plan = plan,
          .host = side,
          .program = request.program,
          .channel = sys::Fd(channel),
          .stdio = request.stdio,
          .gate = {},
          .report = {},
          .container_init = init.pidfd(),
          .container_types = types_of(request.spec),
          .state = {}};
}

Result<> let_join(const ExecRequest& request, const Plan& plan, pid_t pid, sys::FdRef channel) {
  FLUYT_TRY(set_from_outside(plan, pid));
  if (request.spec.linux_ && request.spec.linux_->intel_rdt) {
    const sys::Fd resctrl = FLUYT_TRY(resctrl::open_mounted());
    FLUYT_TRY_CONTEXT(
        resctrl::add(FLUYT_TRY(resctrl::find(resctrl, *request.spec.linux_->intel_rdt, request.id)),
                     pid),
        "linux.intelRdt");
  }
  return send_first_go(channel, {.pid = pid, .cgroups = {}, .tasks = {}});
}

Result<sys::Process> start_joining(const ExecRequest& request, const Plan& plan, HostSide& side,
                                   const sys::Process& init, sys::FdRef born_in,
                                   sys::SocketPair& pair) {
  const int channel = pair.second.raw();
  if (shares_memory(request, plan)) {
    auto life = [&] { live(joining(request, plan, side, init, channel)); };
    auto process = sys::live_in_our_memory([](void* it) { (*static_cast<decltype(life)*>(it))(); },
                                           &life, born_in);
    pair.second.reset();
    return process;
  }
  sys::CloneRequest clone;
  clone.flags = request.parent == ParentOf::kCallersParent ? uint64_t{CLONE_PARENT} : 0;
  clone.cgroup = born_in;
  auto process = FLUYT_TRY(sys::clone_process(clone));
  if (!process) live(joining(request, plan, side, init, channel));
  pair.second.reset();
  auto joins = let_join(request, plan, process->pid(), pair.first);
  if (joins.ok()) return std::move(*process);
  pair.first.reset();
  process->kill(9).ignore("it ends by itself too");
  if (request.parent == ParentOf::kCaller)
    process->wait(Deadline::after_ms(2000)).ignore("the error above is the one to tell");
  return std::move(joins).error();
}

struct Attempt {
  Result<Supervised> done;
  bool forked;  // the program's process was there
};

Attempt attempt(const ExecRequest& request, const Plan& plan, HostSide& side,
                const sys::Process& init, Entry entry) {
  bool forked = false;
  Supervision how{.plan = plan,
                  .parent = request.parent,
                  .deadline = request.deadline,
                  .newlines = request.newlines,
                  .until_executed = true,
                  .on_forked = {},
                  .run_hooks = {},
                  .hand_over_listener = {}};
  how.on_forked = [&](pid_t pid) {
    forked = true;
    return settle(request, plan, entry, pid);
  };
  how.hand_over_listener = [&](pid_t started, sys::FdRef listener) {
    return send_listener(plan.seccomp_listener_path, plan.seccomp_listener_metadata, started,
                         state_of(request), listener);
  };
  auto run = [&]() -> Result<Supervised> {
    sys::Fd born_in;
    if (entry == Entry::kByItself) {
      auto ways = FLUYT_TRY(cgroup::open_ways(request.cgroup));
      born_in = std::move(ways.unified);
      side.tasks = std::move(ways.tasks);
    }
    sys::SocketPair pair = FLUYT_TRY(sys::make_socketpair(SOCK_SEQPACKET));
    sys::Process process = FLUYT_TRY(start_joining(request, plan, side, init, born_in, pair));
    return supervise(how, std::move(process), pair.first);
  };
  auto done = run();
  side.tasks.clear();
  return {std::move(done), forked};
}

}  // namespace

Result<Executed> exec(const ExecRequest& request) {
  const Plan plan = FLUYT_TRY(plan_exec(request));
  const sys::Process init = FLUYT_TRY(open_init(request));
  const bool is_asked = !request.even_if_paused && !request.seen_not_paused;
  if (is_asked && FLUYT_TRY(cgroup::frozen(request.cgroup))) {
    return Error(Code::kFailedPrecondition, cat("container ", quote(request.id), " is paused"));
  }
  HostSide side;
  side.null = FLUYT_TRY(open_null());
  side.root = FLUYT_TRY(open_root_of(request));
  const Entry entry = enters_itself(request, plan) ? Entry::kByItself : Entry::kMoved;
  Attempt made = attempt(request, plan, side, init, entry);
  // Nobody is born in a v2 cgroup that has none but children's processes, or that is gone; and one
  // that is full but for one has no place for who joins and the program. Whoever is moved may go
  // where its init is, and who joins stays outside.
  if (!made.done.ok() && !made.forked && entry == Entry::kByItself)
    made = attempt(request, plan, side, init, Entry::kMoved);
  Supervised done = FLUYT_TRY(std::move(made.done));
  done.warnings.insert(done.warnings.begin(), plan.warnings.begin(), plan.warnings.end());
  return Executed{std::move(done.process), std::move(done.console), std::move(done.warnings)};
}

}  // namespace fluyt::runtime
