#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "monitor/process/handover.h"
#include "monitor/process/loop.h"
#include "monitor/protocol/frame.h"
#include "monitor/protocol/messages.h"
#include "sys/fd.h"

namespace fluyt::monitor {

/// One connected fluytd. It is dropped when it lags.
class Peer {
 public:
  Peer(Loop& loop, sys::Fd socket);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  sys::FdRef socket() const { return socket_; }
  FrameReader& reader() { return reader_; }
  const std::string& client() const { return client_; }  // empty before hello
  void set_client(std::string client) { client_ = std::move(client); }
  /// Queues and sends what the socket takes. A peer that lags or has gone is marked lost.
  void send(const std::string& json, std::vector<sys::Fd> fds = {});
  void flush();
  bool lost() const { return lost_; }
  bool flushed() const { return writer_.empty(); }
  /// Between two frames, both ways.
  bool idle() const { return writer_.empty() && reader_.empty(); }

 private:
  Loop& loop_;
  sys::Fd socket_;
  FrameReader reader_;
  FrameWriter writer_;
  std::string client_;
  bool waits_ = false;
  bool lost_ = false;
};

/// A request's name over all connections: ids are counted by each client.
struct RequestKey {
  std::string client;
  uint64_t id = 0;
  auto operator<=>(const RequestKey&) const = default;
};

/// Sees to it that a request asked again on another connection is not done again: it gets the first
/// answer, now or when it comes. The last few answers are kept.
class Requests {
 public:
  /// True when the request is new and is to be done.
  bool begin(const RequestKey& key, const std::shared_ptr<Peer>& peer);
  /// Answers every connection that asked. Descriptors go to one of them, once.
  void finish(const RequestKey& key, Result<wire::Outcome> outcome, std::vector<sys::Fd> fds = {});
  /// What the answer is to tell of where its time went.
  void note_trace(const RequestKey& key, std::string trace);
  /// Whether somebody waits for an answer other than that to `key`.
  bool waits_for_others(const RequestKey& key) const;
  /// The answers that are kept, the oldest first, for another program to go on with.
  std::vector<HandoverAnswer> hand_over() const;
  void take_over(std::vector<HandoverAnswer> answers);

 private:
  struct Entry {
    std::vector<std::weak_ptr<Peer>> peers;
    bool done = false;
    std::string trace;
    std::string answer;
  };
  std::map<RequestKey, Entry> entries_;
  std::deque<RequestKey> finished_;
};

}  // namespace fluyt::monitor
