#include "monitor/process/requests.h"

#include <algorithm>
#include <utility>

namespace fluyt::monitor {

namespace {

// Events of a busy sandbox while fluytd is stopped in a debugger; behind it the connection is lost,
// and the next one asks.
constexpr size_t kMaxPeerBacklogBytes = 4UL << 20U;
constexpr size_t kKeptAnswers = 16;
constexpr size_t kMaxKeptAnswerBytes = 16UL << 10U;

}  // namespace

Peer::Peer(Loop& loop, sys::Fd socket)
    : loop_(loop), socket_(std::move(socket)), writer_(kMaxPeerBacklogBytes) {}

Peer::~Peer() { loop_.epoll().remove(socket_); }

void Peer::send(const std::string& json, std::vector<sys::Fd> fds) {
  if (lost_) return;
  if (!writer_.push(json, std::move(fds))) {
    lost_ = true;
    return;
  }
  flush();
}

void Peer::flush() {
  if (lost_) return;
  if (!writer_.flush(socket_).ok()) lost_ = true;
  const bool wait = !writer_.empty();
  if (wait == waits_ || lost_) return;
  waits_ = wait;
  loop_.epoll()
      .change(socket_, EPOLLIN | (wait ? static_cast<uint32_t>(EPOLLOUT) : 0U))
      .ignore("the watch exists");
}

bool Requests::begin(const RequestKey& key, const std::shared_ptr<Peer>& peer) {
  const auto [at, fresh] = entries_.try_emplace(key);
  if (at->second.done) {
    peer->send(at->second.answer);
  } else {
    at->second.peers.push_back(peer);
  }
  return fresh;
}

bool Requests::waits_for_others(const RequestKey& key) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const auto& entry) { return !entry.second.done && entry.first != key; });
}

std::vector<HandoverAnswer> Requests::hand_over() const {
  std::vector<HandoverAnswer> answers;
  for (const RequestKey& key : finished_)
    answers.push_back({key.client, key.id, entries_.at(key).answer});
  return answers;
}

void Requests::take_over(std::vector<HandoverAnswer> answers) {
  for (HandoverAnswer& answer : answers) {
    const RequestKey key{std::move(answer.client), answer.id};
    entries_[key] = {.peers = {}, .done = true, .answer = std::move(answer.answer)};
    finished_.push_back(key);
  }
}

void Requests::note_trace(const RequestKey& key, std::string trace) {
  if (const auto at = entries_.find(key); at != entries_.end()) at->second.trace = std::move(trace);
}

void Requests::finish(const RequestKey& key, Result<wire::Outcome> outcome,
                      std::vector<sys::Fd> fds) {
  const auto at = entries_.find(key);
  if (at == entries_.end() || at->second.done) return;
  Entry& entry = at->second;
  wire::Answer answer{.id = key.id,
                      .fds = fds.size(),
                      .outcome = std::move(outcome),
                      .trace = std::exchange(entry.trace, {})};
  entry.answer = wire::encode(answer);
  const bool has_fds = !fds.empty();
  const std::string without_fds =
      has_fds ? wire::encode(wire::Answer{
                    .id = key.id,
                    .outcome =
                        Error(Code::kUnavailable, "the descriptors went to an earlier connection")})
              : std::string();
  bool given = false;
  for (const auto& weak : entry.peers) {
    const auto peer = weak.lock();
    if (!peer || peer->lost()) continue;
    peer->send(has_fds && given ? without_fds : entry.answer, std::exchange(fds, {}));
    given = true;
  }
  entry.peers.clear();
  entry.done = true;
  if (has_fds) entry.answer = without_fds;
  if (entry.answer.size() > kMaxKeptAnswerBytes) {
    entries_.erase(at);  // a list: asked again, it is made again
    return;
  }
  finished_.push_back(key);
  if (finished_.size() > kKeptAnswers) {
    entries_.erase(finished_.front());
    finished_.pop_front();
  }
}

}  // namespace fluyt::monitor
