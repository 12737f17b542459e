#include "runtime/first_process.h"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/strings.h"
#include "runtime/hooks.h"
#include "sys/file.h"
#include "sys/identity.h"

namespace fluyt::runtime {

namespace {

constexpr int kFailed = 1;

Result<> loopback(Inside& /*in*/) { return sys::bring_loopback_up(); }
Result<> no_new_privileges(Inside& /*in*/) { return sys::set_no_new_privileges(); }
Result<> net_devices(Inside& in) { return ask_maker(in, Message::kWantDevices); }
Result<> runtime_hooks(Inside& in) { return ask_maker(in, Message::kWantHooks); }
// In the container's root, as runc's users expect; with no variable of the container's, which could
// name a library of the image's.
Result<> container_hooks(Inside& in) {
  return run_hooks(
      in.plan.hooks.create_container, "createContainer", oci::to_json(in.p.state),
      {.cwd = in.plan.root_path.empty() ? "/" : in.plan.root_path, .env = HookPlace::Env::kNone});
}

// These run inside: one without an environment of its own gets the container's.
Result<> start_hooks(Inside& in) {
  std::vector<oci::Hook> hooks = in.plan.hooks.start_container;
  for (oci::Hook& hook : hooks) {
    if (hook.env.empty()) hook.env = in.env;
  }
  in.p.state.status = "created";
  return run_hooks(hooks, "startContainer", oci::to_json(in.p.state),
                   {.cwd = "/", .env = HookPlace::Env::kNone});
}

using Function = Result<> (*)(Inside&);

Function function_of(Step step) {
  switch (step) {
    case Step::kAwaitMaker:
      return await_maker;
    case Step::kJoinNamespaces:
      return join_planned;
    case Step::kJoinContainer:
      return join_container;
    case Step::kMakeUserNamespace:
      return make_user_namespace;
    case Step::kMakeNamespaces:
      return make_namespaces;
    case Step::kForkEarly:
    case Step::kForkLate:
      return fork_on;
    case Step::kBecomeRoot:
      return become_root;
    case Step::kCgroupNamespace:
      return cgroup_namespace;
    case Step::kLoopback:
      return loopback;
    case Step::kNetDevices:
      return net_devices;
    case Step::kOwnMounts:
      return own_mounts;
    case Step::kEarlyProc:
      return early_proc;
    case Step::kAttachRoot:
      return attach_root;
    case Step::kAttachRootAtPath:
      return attach_root_at_path;
    case Step::kPivot:
      return pivot;
    case Step::kMounts:
      return make_mounts;
    case Step::kLaterMounts:
      return make_later_mounts;
    case Step::kDevices:
      return make_devices;
    case Step::kDevLinks:
      return make_dev_links;
    case Step::kRuntimeHooks:
      return runtime_hooks;
    case Step::kContainerHooks:
      return container_hooks;
    case Step::kConsole:
      return open_console;
    case Step::kHostName:
      return set_names;
    case Step::kSysctl:
      return write_sysctls;
    case Step::kReadOnlyRoot:
      return read_only_root;
    case Step::kReadOnlyPaths:
      return read_only_paths;
    case Step::kMaskedPaths:
      return mask_paths;
    case Step::kRootPropagation:
      return root_propagation;
    case Step::kLetGo:
      return let_go;
    case Step::kKeyring:
      return new_keyring;
    case Step::kScheduling:
      return set_scheduling;
    case Step::kSecurityLabels:
      return set_security_labels;
    case Step::kRlimits:
      return set_rlimits;
    case Step::kStdioOwner:
      return give_stdio;
    case Step::kWorkingDirectory:
      return enter_directory;
    case Step::kSeccompEarly:
    case Step::kSeccomp:
      return load_seccomp;
    case Step::kIdentity:
      return take_identity;
    case Step::kVerifyDirectory:
      return verify_directory;
    case Step::kProgram:
      return find_program;
    case Step::kSession:
      return start_session;
    case Step::kNoNewPrivileges:
      return no_new_privileges;
    case Step::kCloseDescriptors:
      return close_descriptors;
  }
  return nullptr;
}

// Steps whose errors say which field of the specification it was: the step's name would add
// nothing.
bool names_field(Step step) {
  switch (step) {
    case Step::kNetDevices:
    case Step::kMounts:
    case Step::kLaterMounts:
    case Step::kDevices:
    case Step::kHostName:
    case Step::kSysctl:
    case Step::kReadOnlyPaths:
    case Step::kMaskedPaths:
    case Step::kScheduling:
    case Step::kRlimits:
    case Step::kWorkingDirectory:
    case Step::kVerifyDirectory:
    case Step::kProgram:
    case Step::kSeccomp:
    case Step::kSeccompEarly:
    case Step::kRuntimeHooks:
    case Step::kContainerHooks:
      return true;
    default:
      return false;
  }
}

// The descriptors that this process needs; everything else of its maker's goes before it joins
// anything (CVE-2016-9962).
std::vector<int> needed(const FirstProcess& p) {
  std::vector<int> keep;
  auto add = [&](sys::FdRef fd) {
    if (fd.valid()) keep.push_back(fd.raw());
  };
  for (int fd = 3; fd < 3 + p.plan.preserve_fds; ++fd) keep.push_back(fd);
  add(p.program.file);
  for (const sys::FdRef fd : p.program.descriptors) add(fd);
  add(p.channel);
  add(p.stdio.in);
  add(p.stdio.out);
  add(p.stdio.err);
  add(p.gate);
  add(p.report);
  add(p.container_init);
  add(p.host.root);
  add(p.host.null);
  add(p.host.null_mount);
  for (const sys::Fd& fd : p.host.mounts) add(fd);
  for (const sys::Fd& fd : p.host.joins) add(fd);
  for (const sys::Fd& fd : p.host.device_nodes) add(fd);
  for (const sys::Fd& fd : p.host.tasks) add(fd);
  return keep;
}

Result<> prepare_self(const FirstProcess& p) {
  // First of all: nobody who shares a PID namespace with us may look into us, and who may trace us
  // finds neither our caller's words nor its environment. A maker without privileges has to open
  // our id maps first, which it could not if they were root's; become_root() does it then.
  const bool maker_is_nobody =
      p.plan.identity.keeps_groups && (p.plan.namespaces.at_clone & CLONE_NEWUSER) != 0;
  if (!maker_is_nobody) FLUYT_TRY(sys::set_dumpable(false));
  sys::forget_command_line();
  FLUYT_TRY(sys::close_all_but(needed(p)));
  sys::reset_signals();
  sys::set_umask(
      0);  // modes are meant as written; the container's own umask comes with its identity
  return {};
}

void end_at_gate(int number) { _exit(128 + number); }

// The kernel keeps signals from a PID namespace's first process unless it has a handler: until the
// program takes over, those that ask for an end get it, from the moment that we are said to be
// there.
void end_on_signals() {
  for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2})
    ::signal(number, end_at_gate);
}

Result<> set_up(Inside& in) {
  FLUYT_TRY(prepare_self(in.p));
  FLUYT_TRY_CONTEXT(open_proc_before(in), "security labels");
  for (const Step step : in.plan.steps) {
    const Function function = function_of(step);
    auto done = function(in);
    if (done.ok()) continue;
    if (names_field(step)) return done;
    return std::move(done).error().add_context(step_name(step));
  }
  if (in.p.gate.valid()) end_on_signals();
  return say(in.p.channel, Message::kReady);
}

// One byte opens the gate. End of file: nobody is left who could.
void wait_at_gate(sys::FdRef gate) {
  char byte = 0;
  auto got = sys::read_some(gate, {&byte, 1});
  if (!got.ok() || *got == 0) _exit(kFailed);
}

// "exec /bin/x: no such file or directory": the words that callers look for.
Error not_executed(const std::string& program, const Error& why) {
  const char* words = strerrordesc_np(why.errno_value());
  if (words == nullptr) return why;
  return Error(why.code(), cat(kNotExecuted, program, ": ", to_lower(words)));
}

void tell(const Inside& in, const Error& error) {
  if (in.p.report.valid()) {
    sys::write_all(in.p.report, error.message()).ignore("nobody else to tell");
  } else {
    say_error(in.p.channel, error).ignore("nobody else to tell");
  }
}

}  // namespace

Result<> await_maker(Inside& in) {
  auto first = FLUYT_TRY(wait_first_go(in.p.channel));
  if (!first) _exit(kFailed);
  in.p.state.pid = first->pid;
  in.p.host.cgroups = std::move(first->cgroups);
  return cgroup::enter(first->tasks);
}

Result<> wait_for_go(Inside& in) {
  const auto pid = FLUYT_TRY(wait_go(in.p.channel));
  // End of file: the maker gave up or died. It leaves the reporting to whoever killed it.
  if (!pid) _exit(kFailed);
  in.p.state.pid = *pid;
  return {};
}

Result<> ask_maker(Inside& in, Message question, int32_t value) {
  FLUYT_TRY(say(in.p.channel, question, value));
  return wait_for_go(in);
}

void live(FirstProcess process) {
  Inside in(std::move(process));
  auto done = set_up(in);
  if (!done.ok()) {
    say_error(in.p.channel, done.error()).ignore("the maker is gone");
    _exit(kFailed);
  }
  if (in.p.gate.valid()) {
    in.p.channel.reset();
    wait_at_gate(in.p.gate);
  }
  const bool of_container = !in.p.container_init.valid();
  if (!in.plan.hooks.start_container.empty() && of_container) {
    auto hooked = start_hooks(in);
    if (!hooked.ok()) {
      tell(in, hooked.error());
      _exit(kFailed);
    }
  }
  const sys::FdRef file = in.p.program.file;
  tell(in, not_executed(in.program, file.valid() ? sys::execute_file(file, in.plan.args, in.env)
                                                 : sys::execute(in.program, in.plan.args, in.env)));
  _exit(kFailed);
}

}  // namespace fluyt::runtime
