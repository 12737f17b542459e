#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "streaming/spdy/frames.h"

namespace fluyt::streaming::spdy {

/// Gets what the client does with its streams. May call the session, except feed().
class SessionHandler {
 public:
  virtual ~SessionHandler() = default;
  /// The client opens a stream. False refuses it; a stream that is taken has been answered.
  virtual bool on_stream(uint32_t id, const Headers& headers) = 0;
  virtual void on_stream_data(uint32_t id, std::string_view bytes) = 0;
  /// The client sends nothing more on it; we may.
  virtual void on_stream_end(uint32_t id) = 0;
  /// The client wants no more of it in either direction: the stream is gone.
  virtual void on_stream_reset(uint32_t id) = 0;
};

/// The server's side of a SPDY/3.1 connection: which streams there are and what may be said on
/// them. No I/O: bytes come by feed() and leave through `send`.
///
///     open --FIN sent--> half closed (ours) --FIN read--> gone
///     open --FIN read--> half closed (theirs) --FIN sent--> gone
///     any --RST either way--> gone
///
/// Windows are not kept in either direction: the clients of the field never send WINDOW_UPDATE and
/// would stall at the first 64 KiB, and what they send is held back by not reading.
class Session : private FrameVisitor {
 public:
  using Send = std::function<void(std::string)>;
  Session(SessionHandler& handler, size_t max_streams, Send send)
      : handler_(handler), max_streams_(max_streams), send_(std::move(send)), reader_(*this) {}

  /// An error ends the connection: GOAWAY has been sent, nothing more may be fed.
  Result<> feed(std::string_view bytes);
  /// On a stream that is gone, or after finish(), these do nothing.
  void write(uint32_t id, std::string_view bytes);
  void finish(uint32_t id);
  void reset(uint32_t id, ResetStatus status);
  /// No new stream is taken from here on.
  void go_away();
  bool is_open(uint32_t id) const { return streams_.contains(id); }
  size_t stream_count() const { return streams_.size(); }

 private:
  struct Stream {
    bool sending = true;    // we may
    bool receiving = true;  // they may
  };
  void on_syn_stream(const SynStream& frame) override;
  void on_syn_reply(uint32_t stream, bool fin) override;
  void on_data(uint32_t stream, std::string_view bytes) override;
  void on_fin(uint32_t stream) override;
  void on_reset(uint32_t stream, uint32_t status) override;
  void on_ping(uint32_t id) override;
  void on_go_away() override {}
  void forget_if_done(uint32_t id);

  SessionHandler& handler_;
  const size_t max_streams_;
  Send send_;
  FrameReader reader_;
  HeaderDeflater deflater_;
  std::map<uint32_t, Stream> streams_;
  uint32_t last_stream_ = 0;
  bool going_away_ = false;
  std::string broken_;  // what the client did wrong, found inside a visit
};

}  // namespace fluyt::streaming::spdy
