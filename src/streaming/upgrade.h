#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace fluyt::streaming {

/// The head of a request, as it came.
struct RequestHead {
  std::string method;
  std::string target;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
};

/// How exec and attach tell their end, and which streams there are.
enum class Version {
  kV1,  // plain text on the error stream; no resizing
  kV2,
  kV3,  // with a resize stream
  kV4,  // the end is a Status in JSON
  kV5,  // WebSocket alone: with a signal that closes one channel
};

struct SpdyUpgrade {
  Version version = Version::kV1;
};
struct WebSocketUpgrade {
  Version version = Version::kV1;
  bool base64 = false;  // messages are text: a digit, then base64
  bool tunnel = false;  // messages carry SPDY (port-forward)
};
/// What is agreed with a client that wants to change to another protocol.
struct Upgrade {
  std::string verb;
  std::string token;
  std::string protocol;  // the name to answer with; empty: none was asked for
  std::variant<SpdyUpgrade, WebSocketUpgrade> how;
};
struct Refusal {
  unsigned status = 400;
  std::string text;
  std::vector<std::pair<std::string, std::string>> headers;
};

/// Decides from the head alone. A pure function.
std::variant<Upgrade, Refusal> decide(const RequestHead& request);
/// What a client gets whose token is not, or no longer, known.
Refusal unknown_token();

}  // namespace fluyt::streaming
