#include "cmd/rung/launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/rung/pod.h"
#include "cmd/rung/ps.h"
#include "cmd/rung/rung.h"
#include "cmd/runtime/store.h"
#include "guest/sandbox/member.h"
#include "guest/sandbox/packet.h"
#include "guest/sandbox/text.h"
#include "guest/sys/table.h"
#include "oci/runtime_features.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"
#include "sys/pty.h"
#include "sys/socket.h"

namespace fluyt::rung {

namespace {

constexpr size_t kMaxReport = size_t{64} << 10;
constexpr int64_t kPatienceMs = 5000;

std::string control_path(const std::string& folder) { return cat(folder, "/control.sock"); }

std::string number_of(sys::FdRef fd) { return cat(fd.valid() ? fd.raw() : -1); }

// A terminal of the host's: programs of the container see one of the guest kernel's.
Result<sys::Pty> open_terminal(const oci::Process& process, runtime::Newlines newlines) {
  const sys::Fd devpts = FLUYT_TRY(sys::open("/dev/pts", O_PATH | O_DIRECTORY));
  sys::Pty pty = FLUYT_TRY_CONTEXT(sys::open_pty(devpts), "process.terminal");
  if (newlines == runtime::Newlines::kAsWritten) FLUYT_TRY(sys::keep_newlines(pty.peer));
  if (process.console_size) {
    FLUYT_TRY(sys::set_window_size(pty.peer, static_cast<uint16_t>(process.console_size->height),
                                   static_cast<uint16_t>(process.console_size->width)));
  }
  return pty;
}

// What a process of ours in the container says before it is of use: nothing, or a code and why.
Result<> read_report(sys::FdRef report) {
  const std::string text = FLUYT_TRY(sys::read_all(report, kMaxReport));
  if (text.empty()) return {};
  return Error(static_cast<Code>(text[0]), text.substr(1));
}

// In the container's state folder: the system calls that its programs asked for and that there are
// not, a line each, once. The numbers that there could be bound it.
constexpr char kUnsupportedFile[] = "unsupported";

// The guest kernel has it, and nothing else of the folder: not where that is either.
Result<sys::Fd> open_unsupported(const std::string& folder) {
  const sys::Fd place = FLUYT_TRY(sys::open(folder, O_PATH | O_DIRECTORY));
  FLUYT_TRY(sys::open(place, kUnsupportedFile, O_WRONLY | O_CREAT | O_NOFOLLOW, 0644));
  return commands::open_nameless(place, kUnsupportedFile, O_WRONLY | O_APPEND);
}

// Invalid for no path.
Result<sys::Fd> open_log(const std::string& path) {
  if (path.empty()) return sys::Fd();
  return sys::open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
}

// One word to the guest kernel, and what it answers once it was done.
Result<std::string> ask(const std::string& folder, const guest::ControlPacket& packet) {
  const sys::Fd control = FLUYT_TRY(sys::connect_unix(control_path(folder), SOCK_SEQPACKET));
  FLUYT_TRY(sys::send_with_fds(
      control, std::string_view(reinterpret_cast<const char*>(&packet), sizeof packet), {}));
  std::string text;
  for (;;) {
    std::string bytes(sizeof packet + guest::kMaxControlText, '\0');
    const auto got = FLUYT_TRY(sys::receive_with_fds(control, bytes.data(), bytes.size()));
    guest::ControlPacket answer;
    if (got.size >= sizeof answer) std::memcpy(&answer, bytes.data(), sizeof answer);
    if (answer.kind != guest::ControlPacket::kDone && answer.kind != guest::ControlPacket::kMore)
      return Error(Code::kFailedPrecondition, "the container's guest kernel did not do it");
    text += bytes.substr(sizeof answer, got.size - sizeof answer);
    if (answer.kind == guest::ControlPacket::kDone) return text;
  }
}

Result<> tell(const std::string& folder, const guest::ControlPacket& packet) {
  FLUYT_TRY(ask(folder, packet));
  return {};
}

// Which system calls the container's programs have asked for, the most frequent first.
Result<int> print_calls(commands::Invocation& call) {
  const auto words = FLUYT_TRY(commands::read_words(call, {}, "calls CONTAINER", 1, 1));
  if (!words) return 0;
  const auto folder = FLUYT_TRY(commands::Folder::open(call.globals.root, (*words)[0]));
  const std::string text = FLUYT_TRY(ask(folder.path(), {.kind = guest::ControlPacket::kCount}));
  std::vector<std::pair<uint64_t, int>> counted;
  for (const std::string_view line : split(text, '\n')) {
    const auto fields = split_words(line);
    if (fields.size() != 2) continue;
    counted.emplace_back(parse_number<uint64_t>(fields[1]).value_or(0),
                         parse_number<int>(fields[0]).value_or(-1));
  }
  std::sort(counted.rbegin(), counted.rend());
  std::string out = cat("CALL", std::string(24, ' '), "COUNT  SUPPORT\n");
  for (const auto& [count, number] : counted) {
    const guest::CallEntry* entry = guest::find_call(number);
    std::string name = entry == nullptr ? cat("#", number) : std::string(entry->name);
    name.resize(std::max<size_t>(name.size(), 22), ' ');
    std::string shown = std::to_string(count);
    shown.insert(0, shown.size() < 11 ? 11 - shown.size() : 0, ' ');
    out += cat(name, shown, "  ",
               entry == nullptr                          ? "none"
               : entry->support == guest::Support::kFull ? "full"
                                                         : "partial",
               "\n");
  }
  FLUYT_TRY(sys::write_all(sys::FdRef(STDOUT_FILENO), out));
  return 0;
}

// Run before anything else of the command line is read, as `rung do` and `rung syscalls`; here
// behind global options.
Result<int> do_one(commands::Invocation& call) {
  return run_do({call.words.begin(), call.words.end()});
}
Result<int> print_syscalls(commands::Invocation& /*call*/) {
  FLUYT_TRY(sys::write_all(sys::FdRef(STDOUT_FILENO), guest::describe_calls()));
  return 0;
}

constexpr std::array kMore = std::to_array<commands::Command>({
    {"do", do_one, 1, "run one program, without a bundle"},
    {"syscalls", print_syscalls, 1, "print what the guest kernel has"},
    {"calls", print_calls, 1, "count the system calls that its programs have asked for"},
});

}  // namespace

std::span<const commands::Command> Rung::commands() const { return kMore; }

std::vector<commands::Option> Rung::options() {
  return {{"strace", 0, &strace_, "file for every system call of a new container's programs"},
          {"unsupported", 0, &unsupported_,
           "file for those that there are not, once each; ROOT/ID/unsupported"}};
}

Result<> Rung::check(const oci::Spec& spec) const {
  if (spec.hooks && !spec.hooks->start_container.empty()) {
    return Error(Code::kUnimplemented,
                 "hooks.startContainer: it would run a program of the container's on the host's "
                 "kernel");
  }
  if (spec.linux_ && spec.linux_->personality && spec.linux_->personality->domain != "LINUX") {
    return Error(Code::kUnimplemented,
                 cat("linux.personality.domain: ", quote(spec.linux_->personality->domain),
                     ": expected LINUX"));
  }
  if (spec.linux_ && spec.linux_->seccomp && !spec.linux_->seccomp->listener_path.empty())
    return Error(Code::kUnimplemented, "linux.seccomp.listenerPath: the guest kernel has none");
  FLUYT_TRY(sandbox_of(spec));
  return {};
}

namespace {

// What of the guest kernel's half of a container came to nothing.
Error undone(const runtime::CreateRequest& outer, runtime::Created& created, Error why) {
  const Deadline deadline = Deadline::after_ms(kPatienceMs);
  created.init.kill(SIGKILL).ignore("the error above is the one to tell");
  created.init.wait(deadline).ignore("the error above is the one to tell");
  runtime::end_cgroup(created.cgroup, deadline).ignore("the error above is the one to tell");
  runtime::release(outer.spec, outer.id, "", created.root_mount)
      .ignore("the error above is the one to tell");
  return why;
}

// Above that of the guest kernel, which is the sandbox's: where memory runs out a program ends.
void set_score(pid_t pid, const oci::Process& process) {
  constexpr int kAbove = 100;
  constexpr int kMost = 1000;
  const int score = std::min(process.oom_score_adj.value_or(0) + kAbove, kMost);
  const auto file = sys::open(cat("/proc/", pid, "/oom_score_adj"), O_WRONLY);
  if (file.ok()) sys::write_all(*file, cat(score)).ignore("it is a preference");
}

// Who belongs where. The processes of a member's programs descend from one of the sandbox's, which
// is put into the container's cgroup before there is any of them. The broker is born in that and is
// the guest kernel's servant: in the sandbox's no limit of the container's keeps the kernel
// waiting.
Result<> settle(const Sandbox& sandbox, const runtime::Created& created, sys::FdRef born,
                sys::FdRef go, const oci::Process& process) {
  guest::Born numbers;
  const size_t got =
      FLUYT_TRY(sys::read_some(born, {reinterpret_cast<char*>(&numbers), sizeof numbers}));
  // It will say why.
  if (got != sizeof numbers) return {};
  const pid_t pid = FLUYT_TRY(find_child(sandbox.pid, numbers.ancestor));
  set_score(pid, process);
  FLUYT_TRY(runtime::cgroup::join(created.cgroup, pid));
  const pid_t broker = FLUYT_TRY(find_child(created.init.pid(), numbers.broker));
  FLUYT_TRY(runtime::cgroup::join(sandbox.cgroup, broker, sandbox.pid));
  return sys::write_all(go, "m");
}

}  // namespace

Result<runtime::Created> Rung::create(runtime::CreateRequest& request,
                                      const std::string& folder) const {
  if (request.preserve_fds > 0)
    return Error(
        Code::kUnimplemented,
        "option --preserve-fds: programs of a guest kernel get no descriptor of the host's");
  std::optional<Sandbox> pod =
      FLUYT_TRY(find_sandbox(request.spec, folder.substr(0, folder.rfind('/'))));
  const guest::SandboxRequest sandbox = FLUYT_TRY(sandbox_of(request.spec));
  const sys::Fd text = FLUYT_TRY(sys::sealed_memfd("sandbox", guest::to_text(sandbox)));
  const sys::Fd control = FLUYT_TRY(sys::listen_unix(control_path(folder), SOCK_SEQPACKET, 0600));
  const sys::Fd program = FLUYT_TRY(sys::open("/proc/self/exe", O_PATH));
  sys::Pipe ready = FLUYT_TRY(sys::make_pipe());
  sys::Pipe born = FLUYT_TRY(sys::make_pipe());
  sys::Pipe go = FLUYT_TRY(sys::make_pipe());
  const sys::Fd strace = FLUYT_TRY_CONTEXT(open_log(strace_), "option --strace");
  const sys::Fd unsupported =
      FLUYT_TRY_CONTEXT(unsupported_.empty() ? open_unsupported(folder) : open_log(unsupported_),
                        "option --unsupported");

  runtime::CreateRequest outer = request;
  OuterSpec translated = outer_spec(request.spec);
  outer.spec = std::move(translated.spec);
  outer.mount_places = std::move(translated.mount_places);
  std::vector<std::string>& words = outer.spec.process->args;
  words = {"rung", std::string(pod ? kMember : kSentry), request.id};
  const auto give = [&](std::initializer_list<sys::FdRef> descriptors) {
    for (const sys::FdRef fd : descriptors) {
      words.push_back(number_of(fd));
      if (fd.valid()) outer.program.descriptors.push_back(fd);
    }
  };
  if (pod) {
    give({text, pod->control, control, born.write, go.read, ready.write, request.gate,
          request.report, strace, unsupported});
  } else {
    give({text, ready.write, request.gate, request.report, control, strace, unsupported});
  }
  outer.program.file = program;
  outer.gate = outer.report = {};
  outer.fills_dev = false;
  sys::Pty pty;
  if (request.spec.process->terminal) {
    pty = FLUYT_TRY(open_terminal(*request.spec.process, request.newlines));
    outer.stdio = {pty.peer, pty.peer, pty.peer};
  }
  runtime::Created created = FLUYT_TRY(runtime::create(outer));
  ready.write.reset();
  born.write.reset();
  go.read.reset();
  if (pod) {
    pod->control.reset();
    auto settled = settle(*pod, created, born.read, go.write, *request.spec.process);
    if (!settled.ok()) return undone(outer, created, std::move(settled).error());
  }
  auto said = read_report(ready.read);
  if (!said.ok()) return undone(outer, created, std::move(said).error());
  created.console = std::move(pty.master);
  for (std::string& sentence : left_out(request.spec))
    created.warnings.push_back(std::move(sentence));
  return created;
}

Result<runtime::Executed> Rung::exec(runtime::ExecRequest& request,
                                     const std::string& folder) const {
  if (request.preserve_fds > 0)
    return Error(
        Code::kUnimplemented,
        "option --preserve-fds: programs of a guest kernel get no descriptor of the host's");
  const guest::ProgramRequest program =
      FLUYT_TRY(program_of(request.process, request.spec.linux_ ? request.spec.linux_->seccomp
                                                                : std::optional<oci::Seccomp>()));
  const sys::Fd text = FLUYT_TRY(sys::sealed_memfd("program", guest::to_text(program)));
  auto control = sys::connect_unix(control_path(folder), SOCK_SEQPACKET);
  if (!control.ok())
    return Error(
        Code::kFailedPrecondition,
        cat("exec: the container's guest kernel does not answer: ", control.error().message()));
  const sys::Fd file = FLUYT_TRY(sys::open("/proc/self/exe", O_PATH));
  sys::Pipe report = FLUYT_TRY(sys::make_pipe());
  runtime::ExecRequest outer = request;
  oci::Process keeper;
  keeper.args = {"rung", std::string(kKeeper), number_of(text), number_of(report.write),
                 number_of(*control)};
  keeper.cwd = "/";
  keeper.no_new_privileges = true;
  keeper.oom_score_adj = request.process.oom_score_adj;
  keeper.exec_cpu_affinity = request.process.exec_cpu_affinity;
  outer.process = std::move(keeper);
  outer.program.file = file;
  outer.program.descriptors = {text, report.write, *control};
  if (outer.spec.linux_) {
    outer.spec.linux_->seccomp.reset();
    outer.spec.linux_->personality.reset();
  }
  sys::Pty pty;
  if (request.process.terminal) {
    pty = FLUYT_TRY(open_terminal(request.process, request.newlines));
    outer.stdio = {pty.peer, pty.peer, pty.peer};
  }
  runtime::Executed executed = FLUYT_TRY(runtime::exec(outer));
  report.write.reset();
  auto said = read_report(report.read);
  if (!said.ok()) {
    executed.process.wait(Deadline::after_ms(kPatienceMs)).ignore("it ends by itself");
    return std::move(said).error();
  }
  executed.console = std::move(pty.master);
  return executed;
}

// The host's freezer waits for every thread to come to a stop, and a guest thread within a call is
// at one already that the freezer does not know. So the guest kernel stops its programs itself.
Result<> Rung::pause(const commands::Folder& folder,
                     const runtime::CgroupRecord& /*cgroup*/) const {
  FLUYT_TRY(tell(folder.path(), {.kind = guest::ControlPacket::kPause, .value = 1}));
  return folder.mark_paused(true);
}

Result<> Rung::resume(const commands::Folder& folder,
                      const runtime::CgroupRecord& /*cgroup*/) const {
  FLUYT_TRY(tell(folder.path(), {.kind = guest::ControlPacket::kPause, .value = 0}));
  return folder.mark_paused(false);
}

// The host's processes of a container are the guest kernel's own and what runs its programs' code.
Result<bool> Rung::signal_all(const commands::Folder& folder, int signal) const {
  FLUYT_TRY(tell(folder.path(), {.kind = guest::ControlPacket::kSignalAll, .value = signal}));
  return true;
}

Result<std::optional<std::string>> Rung::show_processes(
    const commands::Folder& folder, const std::vector<std::string>& options) const {
  const std::string text =
      FLUYT_TRY(ask(folder.path(), {.kind = guest::ControlPacket::kProcesses}));
  return std::optional(
      FLUYT_TRY(print_processes(FLUYT_TRY(guest::parse_processes(text)), options, time(nullptr))));
}

Result<> Rung::update(oci::Resources& resources, const std::string& folder) const {
  if (resources.cpu && (resources.cpu->quota || resources.cpu->period)) {
    const int64_t quota = std::clamp<int64_t>(resources.cpu->quota.value_or(0), 0, INT32_MAX);
    FLUYT_TRY(tell(folder, {.kind = guest::ControlPacket::kLimitProcessors,
                            .value = static_cast<int32_t>(quota),
                            .flags = static_cast<uint32_t>(resources.cpu->period.value_or(0))}));
  }
  if (!resources.pids_limit) return {};
  const int64_t limit = *resources.pids_limit;
  resources.pids_limit = host_pids(limit);
  constexpr int64_t kMost = 30000;
  return tell(folder, {.kind = guest::ControlPacket::kLimitTasks,
                       .value = static_cast<int32_t>(limit <= 0 || limit > kMost ? kMost : limit)});
}

void Rung::describe(nlohmann::ordered_json& features) const {
  auto& hooks = features["hooks"];
  for (auto hook = hooks.begin(); hook != hooks.end(); ++hook) {
    if (*hook == "startContainer") {
      hooks.erase(hook);
      break;
    }
  }
  auto& on_linux = features["linux"];
  auto& actions = on_linux["seccomp"]["actions"];
  for (auto action = actions.begin(); action != actions.end(); ++action) {
    if (*action == "SCMP_ACT_NOTIFY") {
      actions.erase(action);
      break;
    }
  }
  on_linux["apparmor"] = {{"enabled", false}};
  on_linux["selinux"] = {{"enabled", false}};
  features["annotations"].erase("org.opencontainers.runc.checkpoint.enabled");
  features["annotations"][oci::kSandboxContainerFeature] = "true";
}

}  // namespace fluyt::rung
