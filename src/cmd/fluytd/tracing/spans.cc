#include "cmd/fluytd/tracing/spans.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/strings.h"

namespace fluyt::daemon {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kSpanIdBytes = 8;
constexpr int kStatusError = 2;

// By OpenTelemetry's conventions for gRPC.
Span root_of(const TracedCall& call, const std::string& trace_id, const MakeId& make_id) {
  std::string_view name = call.method;
  if (name.starts_with('/')) name.remove_prefix(1);
  const size_t slash = std::min(name.find('/'), name.size());
  Span span;
  span.trace_id = call.origin ? call.origin->trace_id : trace_id;
  span.span_id = make_id(kSpanIdBytes);
  if (call.origin) span.parent_id = call.origin->span_id;
  span.name = name;
  span.kind = Span::Kind::kServer;
  span.begin_unix_ns = call.began_unix_ns;
  span.end_unix_ns = call.began_unix_ns + call.took_ns;
  span.attributes = {{"rpc.system", "grpc"},
                     {"rpc.service", std::string(name.substr(0, slash))},
                     {"rpc.method", std::string(name.substr(std::min(slash + 1, name.size())))},
                     {"rpc.grpc.status_code", int64_t{call.status_code}}};
  // A call is about one sandbox, and about one container at most.
  for (const trace::Walk& walk : call.walks) {
    if (walk.sandbox_id.empty()) continue;
    span.attributes.emplace_back("fluyt.sandbox.id", walk.sandbox_id);
    if (!walk.container_id.empty()) span.attributes.emplace_back("container.id", walk.container_id);
    break;
  }
  if (call.status_code != 0) span.error = call.status_message;
  return span;
}

// Parts come in the order in which they began; one of depth n is below the last one of depth n - 1.
void add_parts(const trace::Walk& walk, const MakeId& make_id, std::vector<Span>& spans) {
  std::vector<std::string> above = {spans[0].span_id};
  for (const trace::Part& part : walk.parts) {
    const size_t depth = std::min(static_cast<size_t>(std::max(part.depth, 0)), above.size() - 1);
    above.resize(depth + 1);
    Span span;
    span.trace_id = spans[0].trace_id;
    span.span_id = make_id(kSpanIdBytes);
    span.parent_id = above.back();
    span.name = part.name;
    span.begin_unix_ns = walk.began_unix_ns + part.begin_ns;
    span.end_unix_ns = span.begin_unix_ns + part.took_ns;
    above.push_back(span.span_id);
    spans.push_back(std::move(span));
  }
}

Json to_json(const AttributeValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return {{"stringValue", *text}};
  return {{"intValue", std::to_string(std::get<int64_t>(value))}};
}

Json to_json(const Attributes& attributes) {
  Json list = Json::array();
  for (const auto& [key, value] : attributes) {
    list.push_back({{"key", key}, {"value", to_json(value)}});
  }
  return list;
}

Json to_json(const Span& span) {
  Json out = {{"traceId", to_hex(span.trace_id)}, {"spanId", to_hex(span.span_id)}};
  if (!span.parent_id.empty()) out["parentSpanId"] = to_hex(span.parent_id);
  out["name"] = span.name;
  out["kind"] = static_cast<int>(span.kind);
  out["startTimeUnixNano"] = std::to_string(span.begin_unix_ns);
  out["endTimeUnixNano"] = std::to_string(span.end_unix_ns);
  out["attributes"] = to_json(span.attributes);
  out["status"] = Json::object();
  if (span.error) out["status"] = {{"message", *span.error}, {"code", kStatusError}};
  return out;
}

}  // namespace

std::vector<Span> spans_of(const TracedCall& call, const std::string& trace_id,
                           const MakeId& make_id) {
  std::vector<Span> spans = {root_of(call, trace_id, make_id)};
  for (const trace::Walk& walk : call.walks) add_parts(walk, make_id, spans);
  return spans;
}

std::string to_otlp_json(const SpanSource& source, const std::vector<Span>& spans) {
  const Attributes resource = {{"service.name", source.service_name},
                               {"service.version", source.service_version},
                               {"host.name", source.host_name}};
  Json list = Json::array();
  for (const Span& span : spans) list.push_back(to_json(span));
  const Json scope = {{"scope", {{"name", "fluyt"}, {"version", source.service_version}}},
                      {"spans", std::move(list)}};
  const Json out = {
      {"resourceSpans", Json::array({{{"resource", {{"attributes", to_json(resource)}}},
                                      {"scopeSpans", Json::array({scope})}}})}};
  // Errors quote what others wrote: bytes that are not UTF-8 must not end the request.
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int64_t rejected_in(const std::string& answer) {
  const Json json = Json::parse(answer, nullptr, false);
  if (!json.is_object() || !json.contains("partialSuccess")) return 0;
  const Json& partial = json["partialSuccess"];
  if (!partial.is_object() || !partial.contains("rejectedSpans")) return 0;
  const Json& count = partial["rejectedSpans"];
  if (count.is_string()) {
    return std::max<int64_t>(parse_number<int64_t>(count.get_ref<const std::string&>()).value_or(0),
                             0);
  }
  return count.is_number_integer() ? std::max<int64_t>(count.get<int64_t>(), 0) : 0;
}

}  // namespace fluyt::daemon
