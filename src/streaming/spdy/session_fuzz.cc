#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "streaming/spdy/pieces.h"
#include "streaming/spdy/session.h"

namespace {

using namespace fluyt::streaming::spdy;

/// Answers in kind, and finds out when the session tells of what is not open.
class Handler final : public SessionHandler {
 public:
  Session* session = nullptr;

 private:
  bool on_stream(uint32_t id, const Headers& headers) override {
    if (!session->is_open(id)) abort();
    session->write(id, "hello");
    return !find_header(headers, "refuse");
  }
  void on_stream_data(uint32_t id, std::string_view bytes) override {
    if (!session->is_open(id) || bytes.empty()) abort();
    session->write(id, bytes);
  }
  void on_stream_end(uint32_t id) override { session->finish(id); }
  void on_stream_reset(uint32_t id) override {
    if (session->is_open(id)) abort();
  }
};

}  // namespace

/// Bytes of a client, or frames that are well formed, where the second byte is odd; fed in pieces
/// whose sizes the first one chooses.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  std::string frames;
  if ((data[1] & 1U) != 0) {
    HeaderDeflater deflater;
    for (const Piece& each : read_pieces(bytes)) frames += frame_of(each, deflater);
    bytes = frames;
  }
  constexpr size_t kMaxFeeds = 4096;  // a mebibyte byte by byte takes half a second
  const size_t piece = std::max(data[0] + size_t{1}, bytes.size() / kMaxFeeds);
  Handler handler;
  Session session(handler, 8, [](const std::string& /*bytes*/) {});
  handler.session = &session;
  while (!bytes.empty()) {
    if (!session.feed(bytes.substr(0, piece)).ok()) break;
    if (session.stream_count() > 8) abort();
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  return 0;
}
