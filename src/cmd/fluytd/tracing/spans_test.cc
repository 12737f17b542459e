#include "cmd/fluytd/tracing/spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/fluytd/tracing/options.h"

namespace fluyt::daemon {
namespace {

using Json = nlohmann::json;

// Ids count: 1, 2, 3, each in its last byte.
MakeId counting_ids() {
  return [last = 0](size_t bytes) mutable {
    std::string id(bytes, '\0');
    id.back() = static_cast<char>(++last);
    return id;
  };
}

std::string bytes(size_t count, char value) { return std::string(count, value); }

TracedCall a_call() {
  TracedCall call;
  call.method = "/runtime.v1.RuntimeService/RunPodSandbox";
  call.began_unix_ns = 1'700'000'000'123'456'700;
  call.took_ns = 2000;
  trace::Walk walk;
  walk.verb = "RunPodSandbox";
  walk.sandbox_id = "5a";
  walk.began_unix_ns = 1'700'000'000'123'456'789;
  walk.took_ns = 1000;
  walk.parts = {{.name = "network", .begin_ns = 10, .took_ns = 500, .depth = 0},
                {.name = "plugin bridge", .begin_ns = 20, .took_ns = 100, .depth = 1},
                {.name = "plugin portmap", .begin_ns = 130, .took_ns = 100, .depth = 1},
                {.name = "record", .begin_ns = 600, .took_ns = 5, .depth = 0}};
  call.walks = {walk};
  return call;
}

TEST(Traceparent, IsReadAsTheRecommendationHasIt) {
  const auto origin = parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  ASSERT_TRUE(origin);
  EXPECT_EQ(to_hex(origin->trace_id), "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(to_hex(origin->span_id), "b7ad6b7169203331");
  EXPECT_TRUE(origin->sampled);
  EXPECT_FALSE(
      parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02")->sampled);
  EXPECT_TRUE(
      parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03")->sampled);
  // A later version may say more.
  EXPECT_TRUE(parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"));
}

TEST(Traceparent, WhatIsNotInThatFormIsNone) {
  for (const char* text : {"", "-", "00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
                           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
                           "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                           "0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                           "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
                           "00-00000000000000000000000000000000-b7ad6b7169203331-01",
                           "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
                           "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
                           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
                           "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1"}) {
    EXPECT_FALSE(parse_traceparent(text)) << text;
  }
}

TEST(Sampling, FollowsTheId) {
  const std::string low = bytes(8, '\xff') + bytes(8, '\0');
  const std::string high = bytes(8, '\0') + bytes(8, '\xff');
  EXPECT_TRUE(is_sampled(high, 1'000'000));
  EXPECT_FALSE(is_sampled(low, 0));
  EXPECT_TRUE(is_sampled(low, 1));
  EXPECT_FALSE(is_sampled(high, 999'999));
  const std::string quarter = bytes(8, '\0') + "\x40" + bytes(7, '\0');
  EXPECT_FALSE(is_sampled(quarter, 250'000));
  EXPECT_TRUE(is_sampled(quarter, 250'001));
}

TEST(Endpoint, IsAUrlWithAHost) {
  for (const char* good :
       {"http://127.0.0.1:4318", "https://otel.example", "http://[::1]:4318/base"}) {
    EXPECT_TRUE(is_endpoint(good)) << good;
  }
  for (const char* bad : {"", "127.0.0.1:4318", "grpc://x", "http://", "http:///x", "http://:4318",
                          "http://x?y", "http://x y", "http://x\n"}) {
    EXPECT_FALSE(is_endpoint(bad)) << bad;
  }
}

TEST(Spans, PartsAreBelowWhatTheyWereCalledIn) {
  const auto spans = spans_of(a_call(), bytes(16, '\x11'), counting_ids());
  ASSERT_EQ(spans.size(), 5U);
  EXPECT_EQ(spans[0].parent_id, "");
  EXPECT_EQ(spans[1].parent_id, spans[0].span_id);
  EXPECT_EQ(spans[2].parent_id, spans[1].span_id);
  EXPECT_EQ(spans[3].parent_id, spans[1].span_id);
  EXPECT_EQ(spans[4].parent_id, spans[0].span_id);
  for (const Span& span : spans) {
    EXPECT_EQ(span.trace_id, bytes(16, '\x11'));
    EXPECT_GE(span.begin_unix_ns, spans[0].begin_unix_ns);
    EXPECT_LE(span.end_unix_ns, spans[0].end_unix_ns);
  }
  EXPECT_EQ(spans[2].begin_unix_ns, 1'700'000'000'123'456'809);
  EXPECT_EQ(spans[2].end_unix_ns, 1'700'000'000'123'456'909);
}

TEST(Spans, ACallIsTheServersSideOfItsOrigin) {
  TracedCall call = a_call();
  call.origin = Origin{.trace_id = bytes(16, 'a'), .span_id = bytes(8, 'b'), .sampled = true};
  call.walks[0].container_id = "c1";
  call.status_code = 5;
  call.status_message = "id: not found";
  const Span root = spans_of(call, bytes(16, '\x11'), counting_ids())[0];
  EXPECT_EQ(root.trace_id, bytes(16, 'a'));
  EXPECT_EQ(root.parent_id, bytes(8, 'b'));
  EXPECT_EQ(root.name, "runtime.v1.RuntimeService/RunPodSandbox");
  EXPECT_EQ(root.kind, Span::Kind::kServer);
  EXPECT_EQ(root.error, "id: not found");
  EXPECT_EQ(root.attributes, (Attributes{{"rpc.system", "grpc"},
                                         {"rpc.service", "runtime.v1.RuntimeService"},
                                         {"rpc.method", "RunPodSandbox"},
                                         {"rpc.grpc.status_code", int64_t{5}},
                                         {"fluyt.sandbox.id", "5a"},
                                         {"container.id", "c1"}}));
}

TEST(Spans, ADepthThatSkipsOneIsBelowWhatThereIs) {
  TracedCall call = a_call();
  call.walks[0].parts = {{.name = "a", .begin_ns = 0, .took_ns = 1, .depth = 3},
                         {.name = "b", .begin_ns = 0, .took_ns = 1, .depth = 1}};
  const auto spans = spans_of(call, bytes(16, '\x11'), counting_ids());
  EXPECT_EQ(spans[1].parent_id, spans[0].span_id);
  EXPECT_EQ(spans[2].parent_id, spans[1].span_id);
}

TEST(OtlpJson, IdsAreHexadecimalAndTimesAreText) {
  TracedCall call = a_call();
  call.origin = Origin{.trace_id = bytes(16, '\xab'), .span_id = bytes(8, '\xcd'), .sampled = true};
  call.walks[0].parts.resize(1);
  const SpanSource source{.service_name = "node", .service_version = "1.2", .host_name = "h"};
  const Json json = Json::parse(to_otlp_json(source, spans_of(call, "", counting_ids())));
  EXPECT_EQ(json, Json::parse(R"({"resourceSpans":[{
    "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"node"}},
                              {"key":"service.version","value":{"stringValue":"1.2"}},
                              {"key":"host.name","value":{"stringValue":"h"}}]},
    "scopeSpans":[{"scope":{"name":"fluyt","version":"1.2"},"spans":[
      {"traceId":"abababababababababababababababab","spanId":"0000000000000001","parentSpanId":"cdcdcdcdcdcdcdcd",
       "name":"runtime.v1.RuntimeService/RunPodSandbox","kind":2,
       "startTimeUnixNano":"1700000000123456700","endTimeUnixNano":"1700000000123458700",
       "attributes":[{"key":"rpc.system","value":{"stringValue":"grpc"}},
                     {"key":"rpc.service","value":{"stringValue":"runtime.v1.RuntimeService"}},
                     {"key":"rpc.method","value":{"stringValue":"RunPodSandbox"}},
                     {"key":"rpc.grpc.status_code","value":{"intValue":"0"}},
                     {"key":"fluyt.sandbox.id","value":{"stringValue":"5a"}}],
       "status":{}},
      {"traceId":"abababababababababababababababab","spanId":"0000000000000002","parentSpanId":"0000000000000001",
       "name":"network","kind":1,
       "startTimeUnixNano":"1700000000123456799","endTimeUnixNano":"1700000000123457299",
       "attributes":[],"status":{}}]}]}]})"));
}

TEST(OtlpJson, AnErrorIsTheStatusWhateverBytesAreInIt) {
  TracedCall call = a_call();
  call.status_code = 13;
  call.status_message = "bad \xff byte";
  const Json json =
      Json::parse(to_otlp_json({}, spans_of(call, bytes(16, '\x11'), counting_ids())));
  const Json& root = json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
  EXPECT_EQ(root["status"], Json({{"code", 2}, {"message", "bad \xef\xbf\xbd byte"}}));
  EXPECT_FALSE(root.contains("parentSpanId"));
}

TEST(OtlpJson, AnswersMayRefuseSome) {
  EXPECT_EQ(rejected_in(""), 0);
  EXPECT_EQ(rejected_in("{}"), 0);
  EXPECT_EQ(rejected_in(R"({"partialSuccess":{}})"), 0);
  EXPECT_EQ(rejected_in(R"({"partialSuccess":{"rejectedSpans":"3"}})"), 3);
  EXPECT_EQ(rejected_in(R"({"partialSuccess":{"rejectedSpans":4}})"), 4);
  EXPECT_EQ(rejected_in(R"({"partialSuccess":{"rejectedSpans":-4}})"), 0);
}

}  // namespace
}  // namespace fluyt::daemon
