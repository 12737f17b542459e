#include "runtime/channel.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/patience.h"
#include "sys/socket.h"

namespace fluyt::runtime {

namespace {
struct Header {
  uint32_t kind;
  int32_t value;
};
constexpr size_t kMaxText = 8192;

std::string packed(Message kind, int32_t value, std::string_view text) {
  const Header header{static_cast<uint32_t>(kind), value};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += text.substr(0, kMaxText);
  return bytes;
}
}  // namespace

Result<> say(sys::FdRef channel, Message kind, int32_t value, std::string_view text) {
  // One write is one packet; a short one cannot be.
  return sys::write_all(channel, packed(kind, value, text));
}

Result<> say_error(sys::FdRef channel, const Error& error) {
  return say(channel, Message::kError, static_cast<int32_t>(error.code()), error.message());
}

Result<std::optional<int32_t>> wait_go(sys::FdRef channel) {
  Header header{};
  const size_t got =
      FLUYT_TRY(sys::read_some(channel, {reinterpret_cast<char*>(&header), sizeof header}));
  if (got == 0) return std::optional<int32_t>();
  if (got != sizeof header || header.kind != static_cast<uint32_t>(Message::kGo)) {
    return Error(Code::kInternal, "unexpected message of the maker");
  }
  return std::optional(header.value);
}

Result<> send_packet(sys::FdRef channel, Message kind, int32_t value, std::string_view text,
                     const std::vector<sys::FdRef>& fds) {
  return sys::send_with_fds(channel, packed(kind, value, text), fds);
}

Result<> send_first_go(sys::FdRef channel, const FirstGo& go) {
  std::string names;
  std::vector<sys::FdRef> fds;
  for (const auto& [name, fd] : go.cgroups) {
    names += cat(name, "\n");
    fds.emplace_back(fd);
  }
  fds.insert(fds.end(), go.tasks.begin(), go.tasks.end());
  return send_packet(channel, Message::kGo, go.pid, names, fds);
}

Result<std::optional<FirstGo>> wait_first_go(sys::FdRef channel) {
  auto packet = FLUYT_TRY(receive_packet(channel, Deadline::never()));
  if (!packet) return std::optional<FirstGo>();
  const auto names = split(packet->text, '\n');  // one more than there are: the last line is ended
  const size_t named = names.size() - 1;
  if (packet->kind != Message::kGo || named > packet->fds.size())
    return Error(Code::kInternal, "unexpected message of the maker");
  FirstGo go{.pid = packet->value, .cgroups = {}, .tasks = {}};
  for (size_t i = 0; i < packet->fds.size(); ++i) {
    if (i < named) {
      go.cgroups.emplace_back(names[i], std::move(packet->fds[i]));
    } else {
      go.tasks.push_back(std::move(packet->fds[i]));
    }
  }
  return std::optional(std::move(go));
}

namespace {

Result<sys::Received> receive_once(sys::FdRef channel, std::span<char> buffer, Deadline deadline,
                                   sys::FdRef stop) {
  // Without either the read itself waits.
  if (stop.valid() || deadline.poll_timeout_ms() >= 0) {
    sys::Patience patience(deadline, {.fd = stop});
    const bool comes = FLUYT_TRY(patience.wait_readable(channel));
    if (!comes && patience.is_stopped())
      return Error(Code::kCancelled, "given up while the container's first process was set up");
    if (!comes) {
      return Error(Code::kDeadlineExceeded, "the container's first process did not answer in time");
    }
  }
  return sys::receive_with_fds(channel, buffer.data(), buffer.size());
}

}  // namespace

Result<std::optional<Packet>> receive_packet(sys::FdRef channel, Deadline deadline,
                                             sys::FdRef stop) {
  std::array<char, sizeof(Header) + kMaxText> buffer;
  auto received = receive_once(channel, buffer, deadline, stop);
  // Its end went with something of ours unread. The kernel tells that once, before what it sent and
  // before the end of file.
  if (!received.ok() && received.error().errno_value() == ECONNRESET)
    received = receive_once(channel, buffer, deadline, stop);
  FLUYT_TRY(received.ok() ? Result<>() : Result<>(received.error()));
  if (received->size < sizeof(Header)) return std::optional<Packet>();
  Header header{};
  memcpy(&header, buffer.data(), sizeof header);
  Packet packet;
  packet.kind = static_cast<Message>(header.kind);
  packet.value = header.value;
  packet.text.assign(buffer.data() + sizeof header, received->size - sizeof header);
  packet.fds = std::move(received->fds);
  return std::optional(std::move(packet));
}

Error error_of(const Packet& packet) { return Error(static_cast<Code>(packet.value), packet.text); }

}  // namespace fluyt::runtime
