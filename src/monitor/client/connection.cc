#include "monitor/client/connection.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <utility>

#include "base/id.h"
#include "base/strings.h"
#include "base/trace.h"
#include "monitor/client/clean.h"
#include "monitor/client/standstill.h"
#include "monitor/protocol/cgroup.h"
#include "monitor/protocol/state_folder.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxQueuedBytes = 64UL << 20U;
constexpr int kReconnectAttempts = 25;
constexpr int64_t kReconnectPauseMs = 200;

Result<sys::Fd> connect_to(const std::string& state_dir) {
  // Not to wait where one that is stopped has a full backlog.
  auto socket = sys::connect_unix(cat(state_dir, "/", kSocketFile), SOCK_STREAM | SOCK_NONBLOCK);
  if (!socket.ok()) {
    const int why = socket.error().errno_value();
    Error error = std::move(socket).error();
    if (why == ECONNREFUSED) return std::move(error).with_code(Code::kNotFound);
    if (why == EAGAIN) return std::move(error).with_code(Code::kUnavailable);
    return error;
  }
  const auto peer = FLUYT_TRY(sys::peer_of(*socket));
  if (peer.uid != 0 && peer.uid != geteuid()) {
    return Error(Code::kPermissionDenied, cat(state_dir, "/", kSocketFile, ": uid ", peer.uid,
                                              " listens there, expected ours"));
  }
  return std::move(socket).value();
}

}  // namespace

Connection::Connection(std::shared_ptr<HubThread> hub, std::string sandbox_id,
                       std::string state_dir, Events events)
    : hub_(std::move(hub)),
      sandbox_id_(std::move(sandbox_id)),
      state_dir_(std::move(state_dir)),
      events_(std::move(events)),
      client_id_(make_id().substr(0, 16)),
      writer_(kMaxQueuedBytes) {}

Result<std::shared_ptr<Connection>> Connection::open(std::shared_ptr<HubThread> hub,
                                                     std::string sandbox_id, std::string state_dir,
                                                     Events events, Deadline deadline) {
  std::shared_ptr<Connection> self(new Connection(std::move(hub), std::move(sandbox_id),
                                                  std::move(state_dir), std::move(events)));
  self->socket_ = FLUYT_TRY(connect_to(self->state_dir_));
  const auto peer = FLUYT_TRY(sys::peer_of(self->socket_));
  // The hello that is answered after this proves that the pid is still the monitor's.
  self->monitor_ = FLUYT_TRY(sys::Process::open(peer.pid));
  self->hub_->post([weak = self->weak_from_this()] {
    if (auto connection = weak.lock()) connection->watch();
  });
  Attention attention = self->to_monitor();
  const auto hello = FLUYT_TRY(self->call_for<wire::HelloAnswer>(
      wire::Hello{.client = self->client_id_}, {}, deadline, &attention));
  if (hello.sandbox_id != self->sandbox_id_) {
    return Error(Code::kFailedPrecondition,
                 cat(self->state_dir_, ": its monitor is of sandbox ", quote(hello.sandbox_id),
                     ", expected ", quote(self->sandbox_id_)));
  }
  self->note_hello(hello);
  return self;
}

void Connection::note_hello(const wire::HelloAnswer& hello) {
  const std::lock_guard lock(mutex_);
  version_ = std::min(hello.version, kProtocolVersion);
  program_ = hello.program;
}

std::string Connection::program() const {
  const std::lock_guard lock(mutex_);
  return program_;
}

uint32_t Connection::version() const {
  const std::lock_guard lock(mutex_);
  return version_;
}

Connection::~Connection() {
  // What epoll knows is closed on its own thread, or here when that has ended.
  auto socket = std::make_shared<sys::Fd>(std::move(socket_));
  auto process = std::make_shared<sys::Process>(std::move(monitor_));
  hub_->post([hub = hub_.get(), socket, process] {
    if (socket->valid()) hub->epoll().remove(*socket);
    if (process->valid()) hub->epoll().remove(process->pidfd());
  });
}

void Connection::watch() {
  auto weak = weak_from_this();
  auto added = hub_->epoll().add(monitor_.pidfd(), EPOLLIN, [weak](uint32_t) {
    if (auto self = weak.lock()) self->gone();
  });
  if (added.ok()) {
    added = hub_->epoll().add(socket_, EPOLLIN, [weak](uint32_t events) {
      if (auto self = weak.lock()) self->on_socket(events);
    });
  }
  if (!added.ok()) fail_all(added.error().message());
}

bool Connection::is_ending() const {
  const std::lock_guard lock(mutex_);
  return phase_ == Phase::kEnding;
}

void Connection::on_socket(uint32_t events) {
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    auto read = read_frames();
    if (!read.ok()) {
      // One that was asked to end closes its socket first.
      if (!is_ending())
        hub_->logger().warn(cat("monitor of ", sandbox_id_, ": ", read.error().message()));
      drop_socket();
      reconnect();
      return;
    }
  }
  if ((events & EPOLLOUT) != 0) flush();
}

Result<bool> Connection::read_frames() {
  const auto read = FLUYT_TRY(reader_.read_from(socket_));
  while (auto frame = FLUYT_TRY(reader_.next())) on_frame(*frame);
  if (read == FrameReader::Read::kEnd) return Error(Code::kUnavailable, "the socket was closed");
  if (read == FrameReader::Read::kNothing) return false;
  attempts_ = 0;
  return true;
}

void Connection::on_frame(const std::string& json) {
  auto reply = wire::decode_reply(json);
  if (!reply.ok()) {
    // A newer monitor may tell what we do not know.
    hub_->logger().debug(cat("monitor of ", sandbox_id_, ": ", reply.error().message()));
    return;
  }
  if (auto* got = std::get_if<wire::Answer>(&*reply)) return answer(std::move(*got));
  const auto& event = std::get<wire::Event>(*reply).what;
  if (const auto* info = std::get_if<ContainerInfo>(&event)) {
    tell(*info);
  } else if (const auto* exited = std::get_if<wire::ExecExited>(&event)) {
    if (events_.exec_exited) events_.exec_exited(exited->exec_id, exited->exit_code);
  } else if (std::holds_alternative<wire::PodInitEnded>(event)) {
    if (events_.pod_init_ended && !is_ending()) events_.pod_init_ended();
  }
}

void Connection::tell(const ContainerInfo& info) {
  if (events_.container_changed) events_.container_changed(info);
}

void Connection::answer(wire::Answer answer) {
  auto fds = reader_.take_fds(answer.fds);
  std::shared_ptr<Pending> pending;
  bool is_unwanted = false;
  {
    const std::lock_guard lock(mutex_);
    is_unwanted = given_up_execs_.erase(answer.id) > 0;
    if (const auto at = pending_.find(answer.id); at != pending_.end()) {
      pending = at->second;
      pending_.erase(at);
      if (!answer.outcome.ok()) {
        pending->reply = Result<Reply>(std::move(answer.outcome).error());
      } else if (!fds.ok()) {
        pending->reply = Result<Reply>(std::move(fds).error());
      } else {
        pending->reply = Result<Reply>(Reply{std::move(answer.outcome).value(),
                                             std::move(fds).value(), std::move(answer.trace)});
      }
      answered_.notify_all();
    }
  }
  if (pending && pending->ours) take(*pending->reply);
  // Nobody else knows what it has started.
  if (!is_unwanted || !answer.outcome.ok()) return;
  if (const auto* exec = std::get_if<wire::ExecAnswer>(&*answer.outcome))
    ask(wire::KillExec{exec->exec_id, SIGKILL});
}

void Connection::ask(wire::Verb verb) {
  auto pending = std::make_shared<Pending>();
  pending->request.verb = std::move(verb);
  pending->ours = true;
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::kGone) return;
    pending->request.id = next_id_++;
    pending_[pending->request.id] = pending;
  }
  send(pending);
}

void Connection::take(const Result<Reply>& reply) {
  if (!reply.ok()) {
    return hub_->logger().warn(cat("monitor of ", sandbox_id_, ": ", reply.error().message()));
  }
  const auto* list = std::get_if<std::vector<ContainerInfo>>(&reply->outcome);
  if (list == nullptr) return;
  for (const ContainerInfo& info : *list) tell(info);
  const auto lacks = lacks_pod_init(state_dir_);
  if (lacks.ok() && *lacks && events_.pod_init_ended && !is_ending()) events_.pod_init_ended();
}

void Connection::send(const std::shared_ptr<Pending>& pending) {
  if (!socket_.valid()) return;  // sent again when the socket is back
  std::vector<sys::Fd> fds;
  for (const sys::Fd& fd : pending->fds) {
    auto copy = sys::duplicate(fd);
    if (!copy.ok()) break;  // the monitor then says how many are missing
    fds.push_back(std::move(copy).value());
  }
  if (!writer_.push(wire::encode(pending->request), std::move(fds))) {
    const std::lock_guard lock(mutex_);
    pending->reply = Result<Reply>(
        Error(Code::kResourceExhausted, "too much is waiting to be sent to the monitor"));
    pending_.erase(pending->request.id);
    answered_.notify_all();
    return;
  }
  flush();
}

void Connection::flush() {
  if (!socket_.valid()) return;
  // An error shows as EPOLLHUP and is handled there.
  writer_.flush(socket_).ignore("the reading side sees a closed socket too");
  const bool wait = !writer_.empty();
  if (wait == waits_to_write_) return;
  waits_to_write_ = wait;
  hub_->epoll().change(socket_, EPOLLIN | (wait ? EPOLLOUT : 0U)).ignore("the watch exists");
}

void Connection::drop_socket() {
  if (socket_.valid()) hub_->epoll().remove(socket_);
  socket_.reset();
  reader_ = FrameReader();
  writer_ = FrameWriter(kMaxQueuedBytes);
  waits_to_write_ = false;
}

// The monitor drops a client that lags. While it lives, the socket is opened again and everything
// not yet answered is sent once more: it knows the ids it has seen. What it told meanwhile nobody
// heard: it tells the ends of its last execs behind hello, and is asked for the rest.
void Connection::reconnect() {
  std::map<uint64_t, std::shared_ptr<Pending>> again;
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::kGone) return;
    // A list that was asked for before may be as old as the socket that was lost.
    std::erase_if(pending_, [](const auto& entry) {
      return entry.second->ours && std::holds_alternative<wire::List>(entry.second->request.verb);
    });
    again = pending_;
  }
  auto socket = connect_to(state_dir_);
  auto peer =
      socket.ok() ? sys::peer_of(*socket) : Result<sys::PeerCredentials>(std::move(socket).error());
  if (!peer.ok() || peer->pid != monitor_.pid()) {
    // Where we lack a descriptor, say, it may well listen: its pidfd tells of its end.
    const bool is_nobody_there = peer.ok() || peer.error().code() == Code::kNotFound;
    if (is_nobody_there && ++attempts_ > kReconnectAttempts) return gone();
    hub_->post_at(Deadline::after_ms(kReconnectPauseMs), [weak = weak_from_this()] {
      if (auto self = weak.lock()) self->reconnect();
    });
    return;
  }
  ++attempts_;
  socket_ = std::move(socket).value();
  auto added = hub_->epoll().add(socket_, EPOLLIN, [weak = weak_from_this()](uint32_t events) {
    if (auto self = weak.lock()) self->on_socket(events);
  });
  if (!added.ok()) return fail_all(added.error().message());
  Pending hello;
  hello.request.verb = wire::Hello{.client = client_id_};
  send(std::make_shared<Pending>(std::move(hello)));
  for (const auto& [id, pending] : again) {
    if (!std::holds_alternative<wire::Hello>(pending->request.verb)) send(pending);
  }
  ask(wire::List{});
}

void Connection::gone() {
  hub_->epoll().remove(monitor_.pidfd());
  // What the monitor said last is still in the socket.
  while (socket_.valid()) {
    auto read = read_frames();
    if (!read.ok() || !*read) break;
  }
  drop_socket();
  bool expected = false;
  {
    const std::lock_guard lock(mutex_);
    if (phase_ == Phase::kGone) return;
    expected = phase_ == Phase::kEnding;
  }
  fail_all("the monitor is gone");
  if (!expected && events_.lost) events_.lost();
}

void Connection::fail_all(const std::string& why) {
  const std::lock_guard lock(mutex_);
  lost_ = true;
  phase_ = Phase::kGone;
  gone_why_ = why;
  for (const auto& [id, pending] : pending_) {
    pending->reply =
        Result<Reply>(Error(Code::kUnavailable, cat("monitor of ", sandbox_id_, ": ", why)));
  }
  pending_.clear();
  answered_.notify_all();
}

Connection::Attention Connection::to_monitor() const {
  const auto watch = std::make_shared<StandstillWatch>(monitor_.pid());
  const auto look = [watch]() -> Result<> {
    const std::string why = watch->look();
    if (why.empty()) return {};
    return Error(Code::kUnavailable, cat("it does not answer: ", why));
  };
  return {.look = look, .is_idle = [watch] { return watch->is_idle(); }};
}

Connection::Attention Connection::to_killed(std::vector<runtime::CgroupRecord> cgroups) const {
  Attention monitor = to_monitor();
  const auto look = [look_at_monitor = monitor.look, watch = std::make_shared<KilledWatch>(),
                     cgroups = std::move(cgroups)]() -> Result<> {
    FLUYT_TRY(look_at_monitor());
    std::vector<pid_t> left;
    for (const auto& cgroup : cgroups) {
      const auto pids = runtime::cgroup::pids(cgroup);
      if (pids.ok()) left.insert(left.end(), pids->begin(), pids->end());
    }
    if (!watch->stands_still(left)) return {};
    return Error(Code::kDeadlineExceeded, "what was killed stands still");
  };
  monitor.look = look;
  return monitor;
}

std::optional<ContainerInfo> Connection::find_ended(const std::string& id) const {
  auto info = find_record(state_dir_, id);
  if (!info.ok() || !*info || (*info)->state != ContainerState::kExited) return std::nullopt;
  return std::move(*info);
}

std::vector<runtime::CgroupRecord> Connection::cgroups_of_container(const std::string& id) const {
  const auto info = find_record(state_dir_, id);
  if (!info.ok() || !*info) return {};
  return {cgroup_in<runtime::CgroupRecord>(**info)};
}

void Connection::give_up(const std::string& why) {
  lost_ = true;
  hub_->logger().error(
      cat("monitor of ", sandbox_id_, " (pid ", monitor_.pid(), "): ", why, ": ending it"));
  monitor_.kill(SIGKILL).ignore("it may be gone; its records are cleaned up either way");
  // Not left to its pidfd: the kernel may not let it end.
  hub_->post([weak = weak_from_this()] {
    if (auto self = weak.lock()) self->gone();
  });
}

Result<Connection::Reply> Connection::call(wire::Verb verb, const std::vector<sys::FdRef>& fds,
                                           Deadline deadline, Attention* attention) {
  constexpr int kLookMs = 100;
  auto pending = std::make_shared<Pending>();
  pending->request.verb = std::move(verb);
  pending->request.fds = fds.size();
  for (const sys::FdRef fd : fds) pending->fds.push_back(FLUYT_TRY(sys::duplicate(fd)));
  std::unique_lock lock(mutex_);
  if (phase_ == Phase::kGone) {
    if (attention != nullptr) attention->silent = true;
    return Error(Code::kUnavailable, cat("monitor of ", sandbox_id_, ": ", gone_why_));
  }
  const uint64_t id = next_id_++;
  pending->request.id = id;
  pending_[id] = pending;
  hub_->post([weak = weak_from_this(), pending] {
    if (auto self = weak.lock()) self->send(pending);
  });
  while (!pending->reply) {
    int left_ms = deadline.poll_timeout_ms();
    if (left_ms == 0 || hub_->stopped()) {
      pending_.erase(id);
      if (std::holds_alternative<wire::Exec>(pending->request.verb)) given_up_execs_.insert(id);
      if (hub_->stopped()) return Error(Code::kCancelled, "the hub was stopped");
      lock.unlock();
      if (attention != nullptr) {
        attention->unanswered = true;
        // One that is only slow, on a busy host, is no reason to end what it holds.
        attention->silent = attention->is_idle();
      }
      return Error(Code::kDeadlineExceeded, cat("monitor of ", sandbox_id_, ": no answer in time"));
    }
    if (attention != nullptr && (left_ms < 0 || left_ms > kLookMs)) left_ms = kLookMs;
    if (left_ms < 0) {
      answered_.wait(lock);
    } else if (answered_.wait_for(lock, std::chrono::milliseconds(left_ms)) ==
                   std::cv_status::timeout &&
               attention != nullptr && !pending->reply) {
      // What is looked at may take its time, and answers come meanwhile.
      lock.unlock();
      auto looked = attention->look();
      lock.lock();
      if (looked.ok() || pending->reply) continue;
      pending_.erase(id);
      attention->silent = looked.error().code() == Code::kUnavailable;
      attention->unkillable = !attention->silent;
      return std::move(looked).error().add_context(cat("monitor of ", sandbox_id_));
    }
  }
  // Its end came instead of an answer.
  if (attention != nullptr && phase_ == Phase::kGone) attention->silent = !pending->reply->ok();
  if (pending->reply->ok()) trace::graft((*pending->reply)->trace);
  return std::move(*pending->reply);
}

Result<> Connection::call_done(wire::Verb verb, const std::vector<sys::FdRef>& fds,
                               Deadline deadline, Attention* attention) {
  FLUYT_TRY(call(std::move(verb), fds, deadline, attention));
  return {};
}

}  // namespace fluyt::monitor
