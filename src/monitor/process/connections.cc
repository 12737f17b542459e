#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <variant>

#include "base/strings.h"
#include "monitor/process/monitor.h"
#include "monitor/protocol/release.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxPeers = 16;

}  // namespace

void Monitor::on_listener() {
  auto socket = sys::accept_from(listener_);
  if (!socket.ok())
    return;  // it went away again, or there is no descriptor left: it will ask again
  auto peer = sys::peer_of(*socket);
  if (!peer.ok() || (peer->uid != 0 && peer->uid != geteuid()) || peers_.size() >= kMaxPeers) {
    log("a connection was refused");
    return;
  }
  if (!sys::set_nonblocking(*socket, true).ok()) return;
  add_peer(std::move(socket).value(), "");
}

void Monitor::add_peer(sys::Fd socket, const std::string& client) {
  const int raw = socket.raw();
  auto added = std::make_shared<Peer>(loop_, std::move(socket));
  added->set_client(client);
  if (loop_.epoll()
          .add(sys::FdRef(raw), EPOLLIN, [this, raw](uint32_t events) { on_peer(raw, events); })
          .ok()) {
    peers_[raw] = std::move(added);
  }
}

void Monitor::on_peer(int socket, uint32_t events) {
  const auto at = peers_.find(socket);
  if (at == peers_.end()) return;
  const std::shared_ptr<Peer> peer = at->second;
  if ((events & EPOLLOUT) != 0) peer->flush();
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  auto read = read_peer(peer);
  if (!read.ok()) peers_.erase(socket);
}

Result<> Monitor::read_peer(const std::shared_ptr<Peer>& peer) {
  const auto read = FLUYT_TRY(peer->reader().read_from(peer->socket()));
  while (auto frame = FLUYT_TRY(peer->reader().next())) on_frame(peer, *frame);
  if (read == FrameReader::Read::kEnd) return Error(Code::kUnavailable, "closed");
  return {};
}

void Monitor::on_frame(const std::shared_ptr<Peer>& peer, const std::string& json) {
  auto request = wire::decode_request(json);
  if (!request.ok()) {
    log(request.error().message());
    // Without an id that can be trusted there is nobody to answer but id 0.
    peer->send(wire::encode(wire::Answer{.id = 0, .outcome = std::move(request).error()}));
    return;
  }
  auto fds = peer->reader().take_fds(request->fds);
  const uint64_t id = request->id;
  if (!fds.ok())
    return peer->send(wire::encode(wire::Answer{.id = id, .outcome = std::move(fds).error()}));
  if (const auto* greeting = std::get_if<wire::Hello>(&request->verb)) {
    peer->send(wire::encode(wire::Answer{.id = id, .outcome = hello(*peer, *greeting)}));
    if (!peer->client().empty()) tell_ended_execs(*peer);
    return;
  }
  if (peer->client().empty()) {
    return peer->send(wire::encode(wire::Answer{
        .id = id, .outcome = Error(Code::kFailedPrecondition, "hello must come first")}));
  }
  const RequestKey key{peer->client(), id};
  if (requests_.begin(key, peer)) dispatch(key, std::move(request->verb), std::move(fds).value());
}

Result<wire::Outcome> Monitor::hello(Peer& peer, const wire::Hello& hello) {
  if (hello.client.empty() || hello.client.size() > 128) {
    return Error(Code::kInvalidArgument, "hello.client: expected 1 to 128 characters");
  }
  const uint32_t version = std::min(hello.version, kProtocolVersion);
  if (version < hello.oldest || version < kOldestProtocolVersion) {
    return Error(Code::kUnimplemented,
                 cat("hello.version: ", hello.version, " (oldest ", hello.oldest,
                     "): this monitor speaks ", kOldestProtocolVersion, " to ", kProtocolVersion));
  }
  peer.set_client(hello.client);
  return wire::Outcome(
      wire::HelloAnswer{version, std::string(release()), options_.sandbox_id, getpid()});
}

void Monitor::dispatch(const RequestKey& key, wire::Verb verb, Fds fds) {
  if (ending_ && !std::holds_alternative<wire::Shutdown>(verb) &&
      !std::holds_alternative<wire::List>(verb)) {
    return requests_.finish(key, Error(Code::kUnavailable, "the sandbox is being shut down"));
  }
  std::visit([&](auto& v) { handle(key, std::move(v), std::move(fds)); }, verb);
}

void Monitor::drop_lost_peers() {
  for (auto it = peers_.begin(); it != peers_.end();) {
    it = it->second->lost() ? peers_.erase(it) : std::next(it);
  }
}

void Monitor::tell(const wire::Event& event) {
  const std::string json = wire::encode(event);
  for (const auto& [socket, peer] : peers_) {
    if (!peer->client().empty()) peer->send(json);
  }
}

// Once more, for one that was away when they ended; containers and the pod init are on record.
void Monitor::tell_ended_execs(Peer& peer) {
  for (const EndedExec& exec : ended_execs_) {
    if (exec.exit_code)
      peer.send(wire::encode(wire::Event{wire::ExecExited{exec.id, *exec.exit_code}}));
  }
}

void Monitor::done(const RequestKey& key, Result<> result) {
  if (!result.ok()) return requests_.finish(key, std::move(result).error());
  requests_.finish(key, wire::Outcome(wire::Done{}));
}

void Monitor::handle(const RequestKey& key, wire::Hello /*verb*/, Fds /*fds*/) {
  done(key, Error(Code::kFailedPrecondition, "hello: said already"));
}

void Monitor::handle(const RequestKey& key, wire::List /*verb*/, Fds /*fds*/) {
  std::vector<ContainerInfo> list;
  for (const auto& [id, container] : containers_) list.push_back(container->info);
  requests_.finish(key, wire::Outcome(std::move(list)));
}

}  // namespace fluyt::monitor
