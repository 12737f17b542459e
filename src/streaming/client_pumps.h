#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "streaming/client.h"
#include "streaming/pump.h"

namespace fluyt::streaming {

/// What goes between a client and the descriptors of a program, for exec and attach alike: bytes
/// that come before the program are kept, and who is slower than the other side makes it wait. On
/// the loop's thread.
class ClientPumps {
 public:
  /// `output_ended` is called each time that an output has come to its end. Without `takes_input`
  /// what the client sends is dropped.
  ClientPumps(Loop& loop, Client& client, bool takes_input, std::function<void()> output_ended);

  Result<> connect_input(sys::Fd fd, Sink::End end);
  Result<> connect_output(sys::Fd fd, Channel channel);
  /// Everything is connected: what came meanwhile goes first.
  void open();
  void on_input(std::string_view bytes);
  void on_input_end();
  void on_room();
  bool has_output() const { return out_ || err_; }
  /// Null: ended, or never connected.
  Source* out() const { return out_.get(); }
  Source* err() const { return err_.get(); }
  /// Input that comes from now on is dropped.
  void refuse_input() { takes_input_ = false; }
  void close();

 private:
  void output(Channel channel, std::string_view bytes);

  Loop& loop_;
  Client& client_;
  bool takes_input_;
  std::function<void()> output_ended_;
  std::unique_ptr<Sink> in_;
  std::unique_ptr<Source> out_;
  std::unique_ptr<Source> err_;
  bool open_ = false;
  std::string early_;
  bool input_done_ = false;
};

}  // namespace fluyt::streaming
