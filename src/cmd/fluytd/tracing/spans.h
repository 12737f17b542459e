#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "cmd/fluytd/tracing/traced_call.h"

namespace fluyt::daemon {

using AttributeValue = std::variant<std::string, int64_t>;
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

/// A span as OpenTelemetry has it, as far as we make them. Ids are bytes.
struct Span {
  std::string trace_id;   // 16
  std::string span_id;    // 8
  std::string parent_id;  // 8, or none
  std::string name;
  enum class Kind { kInternal = 1, kServer = 2 } kind = Kind::kInternal;  // OTLP's numbers
  int64_t begin_unix_ns = 0;
  int64_t end_unix_ns = 0;
  Attributes attributes;
  std::optional<std::string> error;  // the status, with its description
  bool operator==(const Span&) const = default;
};

/// So many random bytes, not all zero; replaced in tests.
using MakeId = std::function<std::string(size_t bytes)>;

/// The server's span of the call, and below it the parts of its walks. Without an origin it has no
/// parent and a trace of its own, with the id `trace_id`.
std::vector<Span> spans_of(const TracedCall& call, const std::string& trace_id,
                           const MakeId& make_id);

/// Who sends them: the resource's attributes.
struct SpanSource {
  std::string service_name;
  std::string service_version;
  std::string host_name;
};

/// The body of a request to /v1/traces: ExportTraceServiceRequest in OTLP's JSON encoding, where
/// ids are hexadecimal, and 64-bit numbers text.
std::string to_otlp_json(const SpanSource& source, const std::vector<Span>& spans);
/// How many spans the answer to that says were not taken (partialSuccess).
int64_t rejected_in(const std::string& answer);

}  // namespace fluyt::daemon
