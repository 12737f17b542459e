#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "streaming/spdy/headers.h"

/// Frames of SPDY/3.1 (draft 3.1, §2.2): reading by push, writing as bytes. No I/O.
namespace fluyt::streaming::spdy {

/// Payload of a control frame. Data frames have no limit of their own: they are handed on in pieces
/// as they arrive and never kept.
inline constexpr size_t kMaxControlBytes = 16UL << 10U;

enum class ResetStatus : uint32_t {
  kProtocolError = 1,
  kInvalidStream = 2,
  kRefusedStream = 3,
  kCancel = 5,
  kInternalError = 6,
};

struct SynStream {
  uint32_t id = 0;
  bool fin = false;             // the other side sends nothing on it
  bool unidirectional = false;  // nothing may be sent back on it
  Headers headers;
};

/// Gets what was read, in order. May not call back into the reader.
class FrameVisitor {
 public:
  virtual ~FrameVisitor() = default;
  virtual void on_syn_stream(const SynStream& frame) = 0;
  virtual void on_syn_reply(uint32_t stream, bool fin) = 0;
  /// A piece of a data frame; `bytes` is valid for the call.
  virtual void on_data(uint32_t stream, std::string_view bytes) = 0;
  /// FIN on a data or HEADERS frame: nothing follows on this stream.
  virtual void on_fin(uint32_t stream) = 0;
  virtual void on_reset(uint32_t stream, uint32_t status) = 0;
  virtual void on_ping(uint32_t id) = 0;
  virtual void on_go_away() = 0;
};

/// Takes bytes in any pieces. SETTINGS, WINDOW_UPDATE and unknown control frames are checked for
/// their size and dropped: the field's clients (moby/spdystream) neither send windows nor keep
/// them.
class FrameReader {
 public:
  explicit FrameReader(FrameVisitor& visitor) : visitor_(visitor) {}
  /// kInvalidArgument when the other side breaks the protocol; nothing more may be fed then.
  Result<> feed(std::string_view bytes);

 private:
  Result<> begin_frame();
  Result<> end_control();
  Result<> take_syn_stream();
  Result<> take_stream_headers();
  void feed_data(std::string_view& bytes);

  FrameVisitor& visitor_;
  HeaderInflater inflater_;
  std::string head_;     // of the frame that begins: 8 bytes when it is whole
  std::string payload_;  // of a control frame
  bool in_frame_ = false;
  bool is_data_ = false;
  uint16_t type_ = 0;
  uint8_t flags_ = 0;
  uint32_t stream_ = 0;
  size_t left_ = 0;  // of the frame's payload
};

/// A frame's payload has at most 2^24 - 1 bytes: longer data becomes several frames.
std::string write_data(uint32_t stream, std::string_view bytes, bool fin);
std::string write_reset(uint32_t stream, ResetStatus status);
std::string write_ping(uint32_t id);
std::string write_go_away(uint32_t last_stream, bool is_error);
std::string write_syn_stream(const SynStream& frame, HeaderDeflater& deflater);
std::string write_syn_reply(uint32_t stream, const Headers& headers, HeaderDeflater& deflater);

}  // namespace fluyt::streaming::spdy
