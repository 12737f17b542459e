#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

/// The person's side: a terminal, or whatever stands in its place. (Apart from CRI's messages,
/// whose enumeration of signals cannot live beside <signal.h>.)
namespace fluyt::cli {

enum class Stream { kIn = 0, kOut = 1, kErr = 2 };

bool is_terminal(Stream stream);

struct TerminalSize {
  uint16_t width = 80;
  uint16_t height = 24;
};
/// 80 by 24 where there is no terminal, or it does not say.
TerminalSize terminal_size(Stream stream);

/// All of it, unbuffered. False when nobody reads any more.
bool write_out(Stream stream, std::string_view data);

/// Standard input in raw mode: every key goes to the container. Its destruction puts the terminal
/// back, so hold it in the narrowest scope.
class RawMode {
 public:
  static Result<RawMode> enter();
  RawMode(RawMode&& other) noexcept;
  RawMode& operator=(RawMode&&) = delete;
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;
  ~RawMode();

 private:
  struct Saved;
  explicit RawMode(std::unique_ptr<Saved> saved);
  std::unique_ptr<Saved> saved_;
};

struct InputEvent {
  enum class Kind { kBytes, kEnd, kResized, kSignal, kStopped } kind;
  std::string bytes;
  int signal = 0;
};

/// What a person does: types, resizes, sends signals. Make it before any other thread exists: the
/// signals are blocked for all of them and come here.
class Input {
 public:
  enum class Read { kYes, kNo };
  static Result<std::unique_ptr<Input>> create(Read standard_input);
  virtual ~Input() = default;
  /// Waits for the next event.
  virtual InputEvent next() = 0;
  /// The same, leaving what was typed for later.
  virtual InputEvent next_signal() = 0;
  /// From another thread: every next() gives kStopped from now on, until resume().
  virtual void stop() = 0;
  virtual void resume() = 0;
};

/// Whether a signal tells a program that its terminal is gone or its time is up (TERM, HUP).
bool asks_to_end(int signal);
/// Whether it is one that people repeat when nothing happens (INT, TERM).
bool asks_impatiently(int signal);

}  // namespace fluyt::cli
