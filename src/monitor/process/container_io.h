#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "monitor/process/handover.h"
#include "monitor/process/log_file.h"
#include "monitor/process/loop.h"
#include "sys/fd.h"

namespace fluyt::monitor {

/// An attach client that has not taken this much is dropped; the log never is.
inline constexpr size_t kMaxAttachBacklogBytes = 1UL << 20U;

/// A container's standard streams: reads its output as it comes, gives it to the log and to who is
/// attached, and carries the attached clients' input. Never blocks.
class ContainerIo {
 public:
  struct Streams {
    sys::Fd console;  // the pty's master: all else is then empty
    sys::Fd in;       // write end, with open_stdin
    sys::Fd out;
    sys::Fd err;
  };
  struct AttachFds {
    sys::Fd in;
    sys::Fd out;
    sys::Fd err;
  };
  enum class StdinOnce { kNo, kYes };

  ContainerIo(Loop& loop, Streams streams, std::optional<LogFile> log, StdinOnce stdin_once);
  ~ContainerIo();
  ContainerIo(const ContainerIo&) = delete;
  ContainerIo& operator=(const ContainerIo&) = delete;

  /// Begins to read. `on_end` is told on the loop, once, when every output stream has ended.
  Result<> watch(std::function<void()> on_end);
  Result<> attach(AttachFds fds);
  /// kFailedPrecondition without a terminal.
  Result<> resize(uint16_t height, uint16_t width);
  void replace_log(sys::Fd file);
  /// The container has ended: what is in the pipes now is read; true when they have ended too.
  bool drain();
  /// No more is read: the log's last lines are finished. Attached clients get what is queued for
  /// them, at most for some seconds, then end of file.
  void close();
  /// What another program in this process needs to go on: numbers of descriptors that stay ours.
  HandoverStreams hand_over() const;
  /// And from there. The numbers are taken over.
  static std::unique_ptr<ContainerIo> take_over(Loop& loop, HandoverStreams streams);
  /// After watch(): whoever was attached is attached again, with what was queued.
  Result<> take_over_clients(const HandoverStreams& streams);
  bool closing() const { return closing_; }
  bool ended() const { return !output_[0].fd.valid() && !output_[1].fd.valid(); }
  bool has_clients() const { return !clients_.empty(); }
  uint64_t dropped_bytes() const { return log_ ? log_->dropped_bytes() : 0; }

 private:
  struct Output {
    sys::Fd fd;
    Stream stream = Stream::kStdout;
    bool hung_up = false;  // a terminal that nobody has open now
  };
  struct Sink {  // one of a client's outputs
    sys::Fd fd;
    std::string backlog;
    bool waits = false;
  };
  struct Client {
    sys::Fd in;
    bool in_watched = false;
    Sink out;
    Sink err;
  };
  using ClientIt = std::list<Client>::iterator;

  enum class Round { kMore, kEmpty, kHungUp, kEnded };
  Round read_once(Output& output);
  void on_output(Output& output);
  /// Ends it, but for a terminal whose container lives: that may be opened again.
  void hang_up(Output& output);
  void end_output(Output& output);
  void give(Stream stream, std::string_view text);
  Result<> watch_client(ClientIt client);
  /// False when the client must go.
  bool give_sink(Sink& sink, std::string_view text);
  bool flush_sink(Sink& sink);
  bool watch_sink(Sink& sink);
  void on_client_input(ClientIt client);
  void end_client_input(ClientIt client);
  void drop_sink(Sink& sink);
  void drop_client(ClientIt client);
  void drop_if_idle(ClientIt client);
  void write_input();
  void pause_input(bool pause);
  void close_input();

  Loop& loop_;
  Output output_[2];
  sys::Fd input_;  // the pipe's write end, or a copy of the console
  bool terminal_ = false;
  bool container_ended_ = false;
  bool closing_ = false;
  std::optional<LogFile> log_;
  StdinOnce stdin_once_;
  std::function<void()> on_end_;
  std::list<Client> clients_;
  std::string input_backlog_;  // read from a client, not yet taken by the container
  bool input_waits_ = false;
  Loop::TimerId farewell_ = Loop::kNoTimer;
};

}  // namespace fluyt::monitor
