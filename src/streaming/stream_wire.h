#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <deque>
#include <memory>
#include <string>

#include "streaming/loop.h"
#include "streaming/wire.h"

namespace fluyt::streaming {

/// What the two kinds of wires share: the queue of what is to be sent, the pause, the idle clock
/// and the ways to end. Derived classes move the bytes. Keeps itself alive while anything is under
/// way.
class QueueWire : public Wire, public std::enable_shared_from_this<QueueWire> {
 public:
  QueueWire(Loop& loop, WireLimits limits) : loop_(loop), limits_(limits) {}

  void start(std::shared_ptr<Handler> handler) final;
  void send(std::string bytes) final;
  bool is_full() const final { return queued_bytes_ > limits_.much_bytes; }
  void pause_reading() final;
  void resume_reading() final;
  void close() final;
  void abort() final;

 protected:
  /// Start one operation; it ends in read_done(), write_done() or lost().
  virtual void read() = 0;
  virtual void write(const std::string& bytes) = 0;
  /// Nothing waits any more and close() was called: say goodbye, and go on reading to its answer.
  virtual void say_goodbye() = 0;
  virtual void shut() = 0;
  virtual int socket() = 0;

  void read_done(std::string_view bytes);
  void write_done();
  /// The other side is gone, or does what it must not.
  void lost();

 private:
  void read_more();
  void write_more();
  void check_idle();
  void check_gone();

  Loop& loop_;
  const WireLimits limits_;
  std::shared_ptr<Handler> handler_;
  std::deque<std::string> queue_;
  size_t queued_bytes_ = 0;
  bool reading_ = false;
  bool writing_ = false;
  bool paused_ = false;
  bool was_full_ = false;
  bool overflowed_ = false;
  enum class State { kOpen, kClosing, kGone } state_ = State::kOpen;
  int64_t active_at_ns_ = 0;
  std::unique_ptr<Loop::Timer> idle_;
  std::unique_ptr<Loop::Timer> gone_check_;
  std::unique_ptr<Loop::Timer> goodbye_;
};

}  // namespace fluyt::streaming
