#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace fluyt::streaming {

/// A client's connection after its upgrade. A plain one carries bytes; a WebSocket carries
/// messages, and each send() and on_bytes() is one of them. On the loop's thread.
class Wire {
 public:
  class Handler {
   public:
    virtual ~Handler() = default;
    virtual void on_start() = 0;
    /// Valid for the call.
    virtual void on_bytes(std::string_view bytes) = 0;
    /// Little waits to be sent again, after is_full().
    virtual void on_room() = 0;
    /// The client is gone, or we closed; nothing is called after it. Never from within another call
    /// between the two.
    virtual void on_gone() = 0;
  };

  Wire() = default;
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;
  virtual ~Wire() = default;

  virtual void start(std::shared_ptr<Handler> handler) = 0;
  virtual void send(std::string bytes) = 0;
  /// Whoever has more to send should wait for on_room(). What is sent all the same is kept, up to a
  /// limit at which the connection ends: a client that asks and does not listen.
  virtual bool is_full() const = 0;
  /// Holds the client back: nothing is read, and its own buffers fill.
  virtual void pause_reading() = 0;
  virtual void resume_reading() = 0;
  /// Sends what waits, says goodbye, gives the client a moment to close its side, then ends.
  virtual void close() = 0;
  /// Ends at once, on_gone() included: not for the handler.
  virtual void abort() = 0;
};

/// The limits and times of connections.
struct WireLimits {
  int64_t idle_ms = 4LL * 3600 * 1000;  // without a byte in either direction
  int64_t goodbye_ms = 5'000;
  size_t much_bytes = 256UL << 10U;  // is_full() from here
  size_t most_bytes = 2UL << 20U;    // the end from here
};

}  // namespace fluyt::streaming
