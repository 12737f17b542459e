#include "guest/sandbox/control.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/strings.h"
#include "guest/platform/host/io.h"
#include "guest/sandbox/processes.h"
#include "guest/sandbox/program.h"
#include "guest/sandbox/streams.h"
#include "guest/sandbox/text.h"
#include "sys/socket.h"

namespace fluyt::guest {
namespace {

constexpr size_t kDescriptors = 4;
constexpr size_t kMemberDescriptors = 10;
constexpr int kMaxSignal = 64;

constexpr size_t kBrokersListener = 3;  // its place among a member's descriptors

struct Packet {
  ControlPacket head;
  std::vector<sys::Fd> descriptors;
  KnownListener listener;  // of the broker that a member comes with
};

/// Nothing at the end, or for what is not a packet of ours.
std::optional<Packet> receive(sys::FdRef socket) {
  Packet packet;
  pollfd there{socket.raw(), POLLIN, 0};
  while (poll(&there, 1, -1) < 0 && errno == EINTR) {
  }
  // What comes is there by now. Nobody claims the listener before it is known as the broker's.
  const ListenerTable::Lock lock = ListenerTable::own().hold();
  auto got =
      sys::receive_with_fds(socket, reinterpret_cast<char*>(&packet.head), sizeof packet.head);
  if (!got.ok() || got->size != sizeof packet.head) return std::nullopt;
  packet.descriptors = std::move(got->fds);
  if (packet.head.kind == ControlPacket::kAdd && packet.descriptors.size() > kBrokersListener)
    packet.listener = KnownListener(std::move(packet.descriptors[kBrokersListener]), lock);
  return packet;
}

void send(sys::FdRef socket, ControlPacket head, std::string_view text = {}) {
  text = text.substr(0, kMaxControlText);
  head.length = static_cast<uint32_t>(text.size());
  const std::string_view bytes(reinterpret_cast<const char*>(&head), sizeof head);
  sys::send_with_fds(socket, cat(bytes, text), {})
      .ignore("a keeper that has gone is seen where its packets are read");
}

struct Server {
  Pod& pod;
  const ContainerPtr container;
  const std::shared_ptr<sys::Fd> listener;
  const std::shared_ptr<Pts> terminals;
};

/// Between a program and who keeps it.
struct Connection {
  Kernel& kernel;
  sys::Fd socket;
  Outside program;
  ContainerPtr whole;  // the container that ends with it; null: none
};

struct Entered {
  TaskPtr task;
  Outside program;
};

Result<std::string> read_description(sys::FdRef from) {
  const ErrnoOr<Stat> size = host::stat(from);
  if (!size.ok() || size.value().size <= 0 ||
      static_cast<size_t>(size.value().size) > kMaxProgramText)
    return Error(Code::kInvalidArgument,
                 cat("exec: expected a description of 1 to ", kMaxProgramText, " bytes"));
  std::string text(static_cast<size_t>(size.value().size), '\0');
  const ErrnoOr<size_t> got = host::read_at(from, std::as_writable_bytes(std::span(text)), 0);
  if (!got.ok() || got.value() != text.size())
    return Error(Code::kInvalidArgument, "exec: the description cannot be read");
  return text;
}

Result<Entered> enter(Server& server, Packet& packet) {
  if (packet.descriptors.size() != kDescriptors)
    return Error(Code::kInvalidArgument, "exec: expected a description and three streams");
  const ProgramRequest request =
      FLUYT_TRY(parse_program(FLUYT_TRY(read_description(packet.descriptors[0]))));
  // Whoever asks may have changed files of the root just now, from outside.
  server.pod.kernel.tree->distrust(server.container->mounts ? server.container->mounts->root()
                                                            : server.pod.kernel.tree->root());
  Streams streams = FLUYT_TRY(open_streams(
      server.pod.kernel,
      {std::move(packet.descriptors[1]), std::move(packet.descriptors[2]),
       std::move(packet.descriptors[3])},
      server.pod.poller, server.terminals, request.credentials, std::make_shared<HostTerminal>()));
  Prepared prepared = FLUYT_TRY(prepare_program(server.pod.kernel, server.container, request,
                                                std::move(streams.files), streams.terminal));
  return Entered{
      std::move(prepared.task),
      {std::move(prepared.process), std::move(streams.terminal), std::move(streams.bridge)}};
}

void tell_exit(void* argument) {
  const std::unique_ptr<std::shared_ptr<Connection>> held(
      static_cast<std::shared_ptr<Connection>*>(argument));
  Connection& connection = **held;
  const int status = connection.kernel.wait_for(connection.program.process);
  if (connection.whole) connection.kernel.end_container(*connection.whole);
  constexpr int kLastWordsMs = 1000;
  if (connection.program.bridge) connection.program.bridge->drain(kLastWordsMs);
  send(connection.socket, {.kind = ControlPacket::kExited, .value = status});
}

void fail(sys::FdRef socket, const Error& error) {
  send(socket, {.kind = ControlPacket::kFailed, .value = static_cast<int32_t>(error.code())},
       error.message());
}

/// From its first instruction on, until it has ended or nobody keeps it any longer; then it is
/// killed.
void keep(const std::shared_ptr<Connection>& connection, TaskPtr task) {
  Kernel& kernel = connection->kernel;
  if (const Errno started = kernel.start(task); !started.ok()) {
    fail(connection->socket, Error::from_errno(started.value(), "start of the program"));
    {
      std::lock_guard lock(kernel.lock);
      kernel.end_process(*connection->program.process, SIGKILL);
      task->call_in();
    }
    // It has nothing to do but to leave.
    return Task::run(std::move(task));
  }
  task.reset();
  send(connection->socket,
       {.kind = ControlPacket::kStarted, .value = connection->program.process->pid});
  auto* held = new std::shared_ptr<Connection>(connection);
  if (!kernel.workers.start(tell_exit, held).ok()) {
    delete held;
  } else {
    while (const std::optional<Packet> packet = receive(connection->socket)) {
      const ControlPacket& head = packet->head;
      if (head.kind != ControlPacket::kSignal || head.value < 1 || head.value > kMaxSignal) break;
      deliver(kernel, connection->program, head.value,
              (head.flags & ControlPacket::kFromTerminal) != 0);
    }
  }
  // Nobody keeps it any longer.
  std::lock_guard lock(kernel.lock);
  kernel.send(*connection->program.process, make_signal(SIGKILL, SI_KERNEL));
}

void execute(Server& server, sys::Fd socket, Packet packet) {
  Result<Entered> entered = enter(server, packet);
  packet.descriptors.clear();
  if (!entered.ok()) return fail(socket, entered.error());
  auto connection = std::make_shared<Connection>(server.pod.kernel, std::move(socket),
                                                 std::move(entered->program), nullptr);
  keep(connection, std::move(entered->task));
}

/// What a packet of kAdd has.
struct Addition {
  MemberParts parts;
  sys::Fd listener;
};

Result<Addition> read_addition(Packet& packet, SandboxRequest request) {
  std::vector<sys::Fd>& fds = packet.descriptors;
  Addition out;
  out.parts.request = std::move(request);
  out.parts.around = FLUYT_TRY(parse_surroundings(FLUYT_TRY(read_description(fds[1]))));
  out.parts.broker = {host::Child(std::move(fds[2])), std::move(packet.listener),
                      std::move(fds[4])};
  out.parts.streams = {std::move(fds[5]), std::move(fds[6]), std::move(fds[7])};
  out.listener = std::move(fds[8]);
  return out;
}

size_t expected_descriptors(uint32_t flags) {
  return kMemberDescriptors + ((flags & ControlPacket::kHasLimit) != 0 ? 2 : 0) +
         ((flags & ControlPacket::kHasStrace) != 0 ? 1 : 0) +
         ((flags & ControlPacket::kHasLog) != 0 ? 1 : 0);
}

/// What comes behind the others.
void give_extras(Container& container, Packet& packet, uint64_t limit_bytes) {
  size_t next = kMemberDescriptors;
  const auto take = [&](uint32_t flag) {
    return (packet.head.flags & flag) != 0 ? std::move(packet.descriptors[next++]) : sys::Fd();
  };
  sys::Fd limit = take(ControlPacket::kHasLimit);
  sys::Fd used = take(ControlPacket::kHasLimit);
  container.memory = host::MemoryGauge::adopt(std::move(packet.descriptors[9]), std::move(limit),
                                              std::move(used), limit_bytes);
  container.strace = take(ControlPacket::kHasStrace);
  container.log = take(ControlPacket::kHasLog);
}

/// A whole container's life.
void take_in_member(Server& server, sys::Fd socket, Packet packet) {
  Pod& pod = server.pod;
  Kernel& kernel = pod.kernel;
  const auto begin = [&]() -> Result<SandboxRequest> {
    if (packet.descriptors.size() != expected_descriptors(packet.head.flags))
      return Error(Code::kInvalidArgument, "a container: expected its descriptors");
    return parse_sandbox(FLUYT_TRY(read_description(packet.descriptors[0])));
  };
  Result<SandboxRequest> request = begin();
  if (!request.ok()) return fail(socket, request.error());
  ErrnoOr<ContainerPtr> conceived = conceive(pod, *request);
  if (!conceived.ok())
    return fail(socket,
                Error::from_errno(conceived.error().value(), "a process for the container"));
  const ContainerPtr container = std::move(conceived).value();
  give_extras(*container, packet, request->memory_limit_bytes);
  send(socket, {.kind = ControlPacket::kMade, .value = container->platform.host_pid()});
  const std::optional<Packet> moved = receive(socket);
  if (!moved || moved->head.kind != ControlPacket::kContinue) return;

  sys::Fd listener;
  const auto join = [&]() -> Result<Member> {
    Addition addition = FLUYT_TRY(read_addition(packet, std::move(*request)));
    listener = std::move(addition.listener);
    return take_in(pod, container, std::move(addition.parts));
  };
  Result<Member> member = join();
  packet.descriptors.clear();
  if (!member.ok()) return fail(socket, member.error());
  auto connection = std::make_shared<Connection>(
      kernel, std::move(socket), Outside{member->first.process, member->terminal, member->bridge},
      container);
  auto served = serve_control(pod, container, std::move(listener), member->terminals);
  if (!served.ok()) {
    fail(connection->socket,
         Error::from_errno(served.error().value(), "the control socket's thread"));
  } else {
    send(connection->socket, {.kind = ControlPacket::kDone});
  }
  const std::optional<Packet> started = served.ok() ? receive(connection->socket) : std::nullopt;
  if (!started || started->head.kind != ControlPacket::kStart) {
    // It ends before its first instruction.
    std::lock_guard lock(kernel.lock);
    kernel.end_process(*member->first.process, SIGKILL);
  }
  keep(connection, std::move(member->first.task));
  kernel.end_container(*container);
  if (served.ok()) shutdown(served.value()->raw(), SHUT_RDWR);
  kernel.tree->sweep();
}

std::string name_of(const Terminal& terminal) {
  constexpr uint64_t kPts = 136;
  const uint64_t device = terminal.device();
  return device >> 8 == kPts ? cat("pts/", device & 0xff) : "console";
}

/// With blanks for the zeros between them.
std::string arguments_of(Mm& mm) {
  constexpr uint64_t kMost = 4096;
  const uint64_t end = std::min(mm.layout.arguments_end, mm.layout.arguments + kMost);
  std::string out(end > mm.layout.arguments ? end - mm.layout.arguments : 0, '\0');
  out.resize(mm.space().read(mm.layout.arguments, std::as_writable_bytes(std::span(out))));
  while (!out.empty() && out.back() == '\0') out.pop_back();
  std::ranges::replace(out, '\0', ' ');
  return out;
}

std::vector<ProcessRow> processes_of(Kernel& kernel, const Container& container) {
  constexpr int64_t kMillisecond = 1'000'000;
  const PidSpace& shown = container.pids ? *container.pids : *kernel.pids;
  const int64_t now = host::clock_ns(CLOCK_BOOTTIME);
  std::vector<std::pair<ProcessRow, std::shared_ptr<Mm>>> found;
  {
    std::lock_guard lock(kernel.lock);
    for (const auto& [pid, process] : kernel.processes) {
      const Task* first = process->threads.empty() ? nullptr : process->threads.front();
      if (first == nullptr || first->container.get() != &container) continue;
      ProcessRow row;
      row.pid = shown.number_of(pid);
      const ProcessPtr parent = process->parent.lock();
      row.parent = parent ? shown.number_of(parent->pid) : 0;
      row.group = shown.number_of(process->group);
      row.session = shown.number_of(process->session);
      row.uid = first->credentials.euid;
      row.gid = first->credentials.egid;
      row.terminal = process->terminal ? name_of(*process->terminal) : "?";
      row.state = process->stopped                                           ? 'T'
                  : std::ranges::any_of(process->threads, &Task::is_running) ? 'R'
                                                                             : 'S';
      row.nice = first->schedule.nice;
      row.threads = process->threads.size();
      row.age_ms = (now - process->started_ns) / kMillisecond;
      const Usage used = process->usage();
      row.used_ms = (used.user_ns + used.system_ns) / kMillisecond;
      row.name = first->name;
      found.emplace_back(std::move(row), first->mm);
    }
  }
  std::vector<ProcessRow> out;
  for (auto& [row, mm] : found) {
    if (mm) {
      const Mm::Sizes sizes = mm->sizes();
      row.mapped_bytes = sizes.mapped;
      row.usable_bytes = sizes.usable;
      row.arguments = arguments_of(*mm);
    }
    if (row.arguments.empty()) row.arguments = cat("[", row.name, "]");
    out.push_back(std::move(row));
  }
  return out;
}

void serve_one(Server& server, sys::Fd socket) {
  std::optional<Packet> first = receive(socket);
  if (!first) return;
  Kernel& kernel = server.pod.kernel;
  Container& container = *server.container;
  switch (first->head.kind) {
    case ControlPacket::kExec:
      return execute(server, std::move(socket), std::move(*first));
    case ControlPacket::kAdd:
      return take_in_member(server, std::move(socket), std::move(*first));
    case ControlPacket::kLimitTasks: {
      if (first->head.value <= 0) return;
      std::lock_guard lock(kernel.lock);
      container.max_tasks = static_cast<size_t>(first->head.value);
      break;
    }
    case ControlPacket::kPause:
      kernel.pause(container, first->head.value != 0);
      break;
    case ControlPacket::kLimitProcessors:
      container.processor_quota_us = static_cast<uint64_t>(std::max(first->head.value, 0));
      container.processor_period_us = first->head.flags;
      break;
    case ControlPacket::kProcesses: {
      const std::string all = to_text(processes_of(kernel, container));
      for (size_t at = 0; at < all.size(); at += kMaxControlText)
        send(socket, {.kind = ControlPacket::kMore}, std::string_view(all).substr(at));
      break;
    }
    case ControlPacket::kSignalAll:
      if (first->head.value < 1 || first->head.value > kMaxSignal) return;
      kernel.signal_all(container, first->head.value);
      break;
    case ControlPacket::kCount: {
      std::string text;
      for (size_t number = 0; number < container.call_counts.size(); ++number) {
        const uint64_t count = container.call_counts[number].load(std::memory_order_relaxed);
        if (count != 0) text += cat(number, " ", count, "\n");
      }
      return send(socket, {.kind = ControlPacket::kDone}, text);
    }
    default:
      return;
  }
  send(socket, {.kind = ControlPacket::kDone});
}

struct Accepted {
  std::shared_ptr<Server> server;
  sys::Fd socket;
};

void serve_accepted(void* argument) {
  const std::unique_ptr<Accepted> accepted(static_cast<Accepted*>(argument));
  serve_one(*accepted->server, std::move(accepted->socket));
}

void accept_all(void* argument) {
  const std::unique_ptr<std::shared_ptr<Server>> held(
      static_cast<std::shared_ptr<Server>*>(argument));
  const std::shared_ptr<Server>& server = *held;
  for (;;) {
    sys::Fd socket(accept4(server->listener->raw(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      // Out of descriptors: those who wait are not lost, and the sandbox has others to serve.
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      const timespec pause{.tv_sec = 0, .tv_nsec = 10'000'000};
      clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      continue;
    }
    auto* accepted = new Accepted{server, std::move(socket)};
    if (!server->pod.kernel.workers.start(serve_accepted, accepted).ok()) delete accepted;
  }
}

}  // namespace

void deliver(Kernel& kernel, const Outside& to, int signal, bool from_terminal) {
  if (from_terminal && to.bridge) {
    if (signal == SIGWINCH) to.bridge->refresh_size();
    return;
  }
  std::lock_guard lock(kernel.lock);
  int32_t foreground = 0;
  if (to.terminal && from_terminal) {
    std::lock_guard guard(to.terminal->mutex);
    foreground = to.terminal->foreground;
  }
  if (foreground != 0 && kernel.send_to_group(foreground, make_signal(signal, SI_KERNEL))) return;
  // SIGKILL from outside reaches init too; the rest only what it has a handler for.
  kernel.send(*to.process, make_signal(signal, signal == SIGKILL ? SI_KERNEL : SI_USER));
}

ErrnoOr<std::shared_ptr<sys::Fd>> serve_control(Pod& pod, const ContainerPtr& container,
                                                sys::Fd listener, std::shared_ptr<Pts> terminals) {
  auto shared = std::make_shared<sys::Fd>(std::move(listener));
  auto* server = new std::shared_ptr<Server>(
      std::make_shared<Server>(pod, container, shared, std::move(terminals)));
  if (const Errno started = pod.kernel.workers.start(accept_all, server); !started.ok()) {
    delete server;
    return started;
  }
  return shared;
}

}  // namespace fluyt::guest
