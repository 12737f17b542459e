#include "runtime/cgroup/dbus/connection.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::dbus {

namespace {

constexpr size_t kMaxLine = 4096;
constexpr size_t kMaxReplies = 64;

// The names that systemd and the bus use, as what a caller can do about them.
Code code_of(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, Code>, 12> kNames{{
      {"org.freedesktop.systemd1.NoSuchUnit", Code::kNotFound},
      {"org.freedesktop.systemd1.UnitExists", Code::kAlreadyExists},
      {"org.freedesktop.DBus.Error.UnknownObject", Code::kNotFound},
      {"org.freedesktop.DBus.Error.InvalidArgs", Code::kInvalidArgument},
      {"org.freedesktop.DBus.Error.PropertyReadOnly", Code::kInvalidArgument},
      {"org.freedesktop.DBus.Error.UnknownProperty", Code::kInvalidArgument},
      {"org.freedesktop.DBus.Error.AccessDenied", Code::kPermissionDenied},
      {"org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", Code::kPermissionDenied},
      {"org.freedesktop.DBus.Error.LimitsExceeded", Code::kResourceExhausted},
      {"org.freedesktop.DBus.Error.NoReply", Code::kUnavailable},
      {"org.freedesktop.DBus.Error.Timeout", Code::kUnavailable},
      {"org.freedesktop.DBus.Error.ServiceUnknown", Code::kUnavailable},
  }};
  const auto* found =
      std::ranges::find_if(kNames, [&](const auto& one) { return one.first == name; });
  return found == kNames.end() ? Code::kFailedPrecondition : found->second;
}

Error error_of(const Message& message) {
  std::string text;
  if (message.signature.starts_with('s')) {
    Reader in(message.body);
    text = in.string().value_or("");
  }
  return Error(code_of(message.error_name),
               cat(quote(text, 1024), " (", quote(message.error_name), ")"));
}

}  // namespace

Result<Connection> Connection::open(const Endpoint& endpoint, Deadline deadline) {
  Connection connection(
      FLUYT_TRY_CONTEXT(sys::connect_unix(endpoint.path, SOCK_STREAM), endpoint.path), endpoint);
  FLUYT_TRY_CONTEXT(connection.authenticate(deadline), endpoint.path);
  if (endpoint.sort == Endpoint::Sort::kPeer) return connection;
  Message hello;
  hello.path = "/org/freedesktop/DBus";
  hello.interface = "org.freedesktop.DBus";
  hello.member = "Hello";
  hello.destination = "org.freedesktop.DBus";
  FLUYT_TRY_CONTEXT(connection.call(std::move(hello), deadline), endpoint.path);
  return connection;
}

Result<std::string> Connection::next_line(Deadline deadline) {
  size_t end = std::string::npos;
  while ((end = input_.find("\r\n")) == std::string::npos) {
    if (input_.size() > kMaxLine)
      return Error(Code::kDataLoss, "D-Bus authentication: an endless line");
    FLUYT_TRY(fill(deadline));
  }
  std::string line = input_.substr(0, end);
  input_.erase(0, end + 2);
  return line;
}

// The client's whole half goes at once: the other end reads line by line.
Result<> Connection::authenticate(Deadline deadline) {
  std::string half(1, '\0');
  const bool by_socket = endpoint_.identity == Endpoint::Identity::kBySocket;
  half += by_socket ? std::string("AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
                    : cat("AUTH EXTERNAL ", to_hex(std::to_string(geteuid())), "\r\nBEGIN\r\n");
  FLUYT_TRY(sys::send_with_fds(socket_, half, {}));
  std::string line = FLUYT_TRY(next_line(deadline));
  // Asked for the identity that was left out; an empty one has gone already.
  if (by_socket && trim(line) == "DATA") line = FLUYT_TRY(next_line(deadline));
  if (line.starts_with("OK ")) return {};
  return Error(Code::kPermissionDenied,
               cat("D-Bus authentication as user ", geteuid(), ": ", quote(line), ", expected OK"));
}

Result<> Connection::fill(Deadline deadline) {
  pollfd entry{.fd = socket_.raw(), .events = POLLIN, .revents = 0};
  const int ready = poll(&entry, 1, deadline.poll_timeout_ms());
  if (ready < 0 && errno != EINTR) return Error::from_errno(errno, "poll(D-Bus)");
  if (ready == 0) return Error(Code::kDeadlineExceeded, cat(endpoint_.path, ": no answer in time"));
  if (ready < 0) return {};
  std::array<char, 16384> buffer;
  const size_t got = FLUYT_TRY_CONTEXT(sys::read_some(socket_, buffer), endpoint_.path);
  if (got == 0)
    return Error(Code::kUnavailable, cat(endpoint_.path, ": the connection was closed"));
  input_.append(buffer.data(), got);
  return {};
}

Result<Message> Connection::next(Deadline deadline) {
  while (true) {
    auto message = FLUYT_TRY_CONTEXT(take_message(input_), endpoint_.path);
    if (message) return std::move(*message);
    FLUYT_TRY(fill(deadline));
  }
}

// A call to us is dropped: nothing here can be called.
void Connection::keep(Message message) {
  if (message.kind == Kind::kCall) return;
  if (message.kind == Kind::kSignal) {
    if (message.interface != interface_ || message.member != member_) return;
    signals_.push_back(std::move(message));
    if (signals_.size() > kMaxSignals) signals_.pop_front();
    return;
  }
  replies_.push_back(std::move(message));
  if (replies_.size() > kMaxReplies) replies_.pop_front();
}

Result<uint32_t> Connection::send(Message call) {
  if (endpoint_.sort == Endpoint::Sort::kPeer) call.destination.clear();
  call.serial = ++last_serial_;
  const std::string bytes = encode(call);
  if (bytes.size() > kMaxMessageBytes) {
    return Error(Code::kInvalidArgument, cat("D-Bus call ", call.member, ": ", bytes.size(),
                                             " bytes: expected at most ", kMaxMessageBytes));
  }
  FLUYT_TRY_CONTEXT(sys::send_with_fds(socket_, bytes, {}), endpoint_.path);
  return call.serial;
}

Result<Message> Connection::reply(uint32_t serial, Deadline deadline) {
  while (true) {
    const auto kept = std::ranges::find_if(
        replies_, [&](const Message& one) { return one.reply_serial == serial; });
    if (kept != replies_.end()) {
      Message found = std::move(*kept);
      replies_.erase(kept);
      if (found.kind == Kind::kError) return error_of(found);
      return found;
    }
    Message message = FLUYT_TRY(next(deadline));
    keep(std::move(message));
  }
}

Result<Message> Connection::call(Message call, Deadline deadline) {
  return reply(FLUYT_TRY(send(std::move(call))), deadline);
}

Result<> Connection::match(std::string interface, std::string member, Deadline deadline) {
  const std::string rule = cat("type='signal',interface='", interface, "',member='", member, "'");
  interface_ = std::move(interface);
  member_ = std::move(member);
  if (endpoint_.sort == Endpoint::Sort::kPeer) return {};
  Message add;
  add.path = "/org/freedesktop/DBus";
  add.interface = "org.freedesktop.DBus";
  add.member = "AddMatch";
  add.destination = "org.freedesktop.DBus";
  add.signature = "s";
  Writer body;
  body.string(rule);
  add.body = body.take();
  FLUYT_TRY(call(std::move(add), deadline));
  return {};
}

Result<Message> Connection::next_signal(Deadline deadline) {
  while (signals_.empty()) keep(FLUYT_TRY(next(deadline)));
  Message first = std::move(signals_.front());
  signals_.pop_front();
  return first;
}

}  // namespace fluyt::dbus
