// Whatever a peer sends is either refused or understood the same way twice.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <variant>

#include "monitor/protocol/frame.h"
#include "monitor/protocol/messages.h"
#include "monitor/protocol/state_folder.h"

namespace {

using namespace fluyt::monitor;

void one_frame(std::string_view json) {
  if (auto request = wire::decode_request(json); request.ok()) {
    const std::string again = wire::encode(*request);
    auto second = wire::decode_request(again);
    if (!second.ok() || wire::encode(*second) != again) abort();
  }
  if (auto reply = wire::decode_reply(json); reply.ok()) {
    const std::string again = std::visit([](const auto& r) { return wire::encode(r); }, *reply);
    if (!wire::decode_reply(again).ok()) abort();
  }
  decode_record(json).ignore("any input is refused or taken");
  decode_process_record(json, ToCome::kTaken).ignore("any input is refused or taken");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  one_frame(bytes);
  // The first byte cuts the rest into chunks, as a socket would.
  FrameReader reader;
  const size_t step = size == 0 ? 1 : static_cast<size_t>(data[0]) + 1;
  for (size_t at = 1; at < size; at += step) {
    if (!reader.feed(bytes.substr(at, step), {}).ok()) return 0;
    while (true) {
      auto frame = reader.next();
      if (!frame.ok()) return 0;
      if (!*frame) break;
      one_frame(**frame);
    }
  }
  return 0;
}
