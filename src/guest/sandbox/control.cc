#include "guest/sandbox/control.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/strings.h"
#include "guest/platform/host/io.h"
#include "guest/sandbox/program.h"
#include "guest/sandbox/streams.h"
#include "guest/sandbox/text.h"
#include "sys/socket.h"

namespace fluyt::guest {
namespace {

constexpr size_t kDescriptors = 4;
constexpr int kMaxSignal = 64;

struct Packet {
  ControlPacket head;
  std::vector<sys::Fd> descriptors;
};

/// Nothing at the end, or for what is not a packet of ours.
std::optional<Packet> receive(sys::FdRef socket) {
  Packet packet;
  auto got =
      sys::receive_with_fds(socket, reinterpret_cast<char*>(&packet.head), sizeof packet.head);
  if (!got.ok() || got->size != sizeof packet.head) return std::nullopt;
  packet.descriptors = std::move(got->fds);
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
  Kernel& kernel;
  sys::Fd listener;
  std::shared_ptr<host::Poller> poller;
  std::shared_ptr<Pts> terminals;
};

struct Connection {
  Server& server;
  sys::Fd socket;
  Outside program;
};

struct Entered {
  TaskPtr task;
  Outside program;
};

Result<Entered> enter(Server& server, Packet& packet) {
  if (packet.descriptors.size() != kDescriptors)
    return Error(Code::kInvalidArgument, "exec: expected a description and three streams");
  const ErrnoOr<Stat> size = host::stat(packet.descriptors[0]);
  if (!size.ok() || size.value().size <= 0 ||
      static_cast<size_t>(size.value().size) > kMaxProgramText)
    return Error(Code::kInvalidArgument,
                 cat("exec: expected a description of 1 to ", kMaxProgramText, " bytes"));
  std::string text(static_cast<size_t>(size.value().size), '\0');
  const ErrnoOr<size_t> got =
      host::read_at(packet.descriptors[0], std::as_writable_bytes(std::span(text)), 0);
  if (!got.ok() || got.value() != text.size())
    return Error(Code::kInvalidArgument, "exec: the description cannot be read");
  const ProgramRequest request = FLUYT_TRY(parse_program(text));
  // Whoever asks may have changed files of the root just now, from outside.
  server.kernel.tree->distrust();
  Streams streams = FLUYT_TRY(open_streams(
      server.kernel,
      {std::move(packet.descriptors[1]), std::move(packet.descriptors[2]),
       std::move(packet.descriptors[3])},
      server.poller, server.terminals, request.credentials, std::make_shared<HostTerminal>()));
  Prepared prepared = FLUYT_TRY(
      prepare_program(server.kernel, request, std::move(streams.files), streams.terminal));
  return Entered{
      std::move(prepared.task),
      {std::move(prepared.process), std::move(streams.terminal), std::move(streams.bridge)}};
}

void tell_exit(void* argument) {
  const std::unique_ptr<std::shared_ptr<Connection>> held(
      static_cast<std::shared_ptr<Connection>*>(argument));
  Connection& connection = **held;
  const int status = connection.server.kernel.wait_for(connection.program.process);
  constexpr int kLastWordsMs = 1000;
  if (connection.program.bridge) connection.program.bridge->drain(kLastWordsMs);
  send(connection.socket, {.kind = ControlPacket::kExited, .value = status});
}

void serve_one(Server& server, sys::Fd socket) {
  std::optional<Packet> first = receive(socket);
  if (!first) return;
  if (first->head.kind == ControlPacket::kLimitTasks && first->head.value > 0) {
    {
      std::lock_guard lock(server.kernel.lock);
      server.kernel.max_tasks = static_cast<size_t>(first->head.value);
    }
    return send(socket, {.kind = ControlPacket::kDone});
  }
  if (first->head.kind == ControlPacket::kPause) {
    server.kernel.pause(first->head.value != 0);
    return send(socket, {.kind = ControlPacket::kDone});
  }
  if (first->head.kind == ControlPacket::kCount) {
    std::string text;
    for (size_t number = 0; number < server.kernel.call_counts.size(); ++number) {
      const uint64_t count = server.kernel.call_counts[number].load(std::memory_order_relaxed);
      if (count != 0) text += cat(number, " ", count, "\n");
    }
    return send(socket, {.kind = ControlPacket::kDone}, text);
  }
  if (first->head.kind != ControlPacket::kExec) return;
  auto fail = [&](const Error& error) {
    send(socket, {.kind = ControlPacket::kFailed, .value = static_cast<int32_t>(error.code())},
         error.message());
  };
  Result<Entered> entered = enter(server, *first);
  first.reset();
  if (!entered.ok()) return fail(entered.error());
  auto connection = std::make_shared<Connection>(server, sys::Fd(), std::move(entered->program));
  if (const Errno started = server.kernel.start(std::move(entered->task)); !started.ok())
    return fail(Error::from_errno(started.value(), "start of the program"));
  connection->socket = std::move(socket);
  send(connection->socket,
       {.kind = ControlPacket::kStarted, .value = connection->program.process->pid});
  auto* held = new std::shared_ptr<Connection>(connection);
  if (!server.kernel.workers.start(tell_exit, held).ok()) {
    delete held;
  } else {
    while (const std::optional<Packet> packet = receive(connection->socket)) {
      const ControlPacket& head = packet->head;
      if (head.kind != ControlPacket::kSignal || head.value < 1 || head.value > kMaxSignal) break;
      deliver(server.kernel, connection->program, head.value,
              (head.flags & ControlPacket::kFromTerminal) != 0);
    }
  }
  // Nobody keeps it any longer.
  std::lock_guard lock(server.kernel.lock);
  server.kernel.send(*connection->program.process, make_signal(SIGKILL, SI_KERNEL));
}

struct Accepted {
  Server& server;
  sys::Fd socket;
};

void serve_accepted(void* argument) {
  const std::unique_ptr<Accepted> accepted(static_cast<Accepted*>(argument));
  serve_one(accepted->server, std::move(accepted->socket));
}

void accept_all(void* argument) {
  auto& server = *static_cast<Server*>(argument);
  for (;;) {
    sys::Fd socket(accept4(server.listener.raw(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket.valid()) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      // Out of descriptors: those who wait are not lost, and the sandbox has others to serve.
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      const timespec pause{.tv_sec = 0, .tv_nsec = 10'000'000};
      clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      continue;
    }
    auto* accepted = new Accepted{server, std::move(socket)};
    if (!server.kernel.workers.start(serve_accepted, accepted).ok()) delete accepted;
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

Errno serve_control(Kernel& kernel, sys::Fd listener, std::shared_ptr<host::Poller> poller,
                    std::shared_ptr<Pts> terminals) {
  // Lives as long as the sandbox.
  auto* server = new Server{kernel, std::move(listener), std::move(poller), std::move(terminals)};
  const Errno started = kernel.workers.start(accept_all, server);
  if (!started.ok()) delete server;
  return started;
}

}  // namespace fluyt::guest
