#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "streaming/loop.h"
#include "sys/fd.h"

/// Descriptors as ends of a connection: one that gives, one that takes. On the loop's thread.
namespace fluyt::streaming {

/// Reads a descriptor as long as its taker wants more.
class Source {
 public:
  /// Called with what was read; with nothing once, at the end. May destroy the source.
  using Taker = std::function<void(std::string_view)>;
  static Result<std::unique_ptr<Source>> create(Loop& loop, sys::Fd fd, Taker taker);

  /// While it is paused, whoever writes to the descriptor waits.
  void pause() { paused_ = true; }
  bool is_paused() const { return paused_; }
  void resume();
  /// What is in the pipe now is still read, then it is the end, whoever holds the other side.
  void end_after_what_is_there();
  /// The same for a terminal, where nothing tells how much is on its way: the end is when nothing
  /// has come for a moment; whoever is left behind and goes on writing is not heard for ever.
  void end_when_quiet();

 private:
  Source(Loop& loop, Taker taker) : loop_(loop), taker_(std::move(taker)) {}
  void wait();
  void read();
  void end();

  static constexpr int64_t kQuietMs = 50;
  static constexpr size_t kMaxTail = 1UL << 20U;

  Loop& loop_;
  Taker taker_;
  std::unique_ptr<Loop::Watch> watch_;
  std::unique_ptr<Loop::Timer> quiet_;
  std::optional<size_t> left_;
  std::shared_ptr<char> alive_ = std::make_shared<char>();
  bool until_quiet_ = false;
  bool paused_ = false;
  bool waiting_ = false;
};

/// Writes to a descriptor what is given to it, keeping what does not fit yet.
class Sink {
 public:
  enum class End {
    kClose,     // a pipe: its reader sees the end of the file
    kShutdown,  // a socket whose other direction goes on
    kNothing,   // a terminal has no end of file that is not a key
  };
  /// `on_room` is called when little is kept again after much was.
  static Result<std::unique_ptr<Sink>> create(Loop& loop, sys::Fd fd, End end,
                                              std::function<void()> on_room);

  /// What nobody reads any more is dropped, as a closed pipe does it to any program.
  void write(std::string_view bytes);
  /// Nothing more comes: the end, when everything is written.
  void finish();
  /// More is kept than should be: let whoever sends wait for `on_room`.
  bool is_full() const { return kept_.size() > kMuch; }
  bool is_empty() const { return kept_.empty(); }

 private:
  Sink(End end, std::function<void()> on_room) : end_(end), on_room_(std::move(on_room)) {}
  void flush();
  void end_now();
  void drop();

  static constexpr size_t kMuch = 128UL << 10U;

  const End end_;
  std::function<void()> on_room_;
  std::unique_ptr<Loop::Watch> watch_;
  std::string kept_;
  bool waiting_ = false;
  bool finishing_ = false;
};

}  // namespace fluyt::streaming
