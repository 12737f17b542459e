#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/trace.h"

namespace fluyt::daemon {

/// The span that a call is a part of, as its caller says (W3C Trace Context). Ids are bytes.
struct Origin {
  std::string trace_id;  // 16
  std::string span_id;   // 8
  bool sampled = false;
  bool operator==(const Origin&) const = default;
};

/// The header or metadata `traceparent` (section 3.2 of the recommendation):
/// "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01". Nothing for what is not in that form;
/// whoever gets nothing begins a trace of its own, as the recommendation has it.
std::optional<Origin> parse_traceparent(std::string_view text);

/// A call that has ended, with the walks that were made in it.
struct TracedCall {
  std::string method;  // "/runtime.v1.RuntimeService/RunPodSandbox"
  std::optional<Origin> origin;
  int64_t began_unix_ns = 0;
  int64_t took_ns = 0;
  int status_code = 0;  // gRPC's
  std::string status_message;
  std::vector<trace::Walk> walks;
};

/// Whether a new trace is among `per_million` of a million, by its id: whoever decides by the same
/// rule decides alike (TraceIdRatioBased).
bool is_sampled(std::string_view trace_id, size_t per_million);

}  // namespace fluyt::daemon
