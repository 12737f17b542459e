#include "cmd/fluytd/tracing/exporter.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/guarded.h"
#include "base/strings.h"
#include "sys/fd.h"

namespace fluyt::daemon {
namespace {

using Json = nlohmann::json;

struct Reply {
  int status = 200;
  std::string headers = {};
  std::string body = "{}";
  int delay_ms = 0;
};
using Replies = std::vector<Reply>;

// A collector on loopback: answers one request a connection with the next of `answers`, then with
// 200; keeps what it was sent.
class FakeCollector {
 public:
  explicit FakeCollector(Replies replies = {}) : replies_(std::move(replies)) {
    listener_ = sys::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!listener_.valid()) {
      ADD_FAILURE() << "no socket";
      return;
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.raw(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_.raw(), 16), 0);
    EXPECT_EQ(::getsockname(listener_.raw(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  FakeCollector(const FakeCollector&) = delete;
  FakeCollector& operator=(const FakeCollector&) = delete;
  ~FakeCollector() {
    ended_ = true;
    if (thread_.joinable()) thread_.join();
  }
  std::string endpoint() const { return cat("http://127.0.0.1:", port_); }
  std::vector<std::string> requests() const { return *requests_.lock(); }

 private:
  void serve() {
    while (!ended_) {
      pollfd what{.fd = listener_.raw(), .events = POLLIN, .revents = 0};
      if (::poll(&what, 1, 10) <= 0) continue;
      const sys::Fd client(::accept4(listener_.raw(), nullptr, nullptr, SOCK_CLOEXEC));
      const std::string request = read_request(client);
      if (request.empty()) continue;
      Reply reply;
      if (next_ < replies_.size()) reply = replies_[next_++];
      requests_.lock()->push_back(request);
      for (int waited = 0; waited < reply.delay_ms && !ended_; waited += 10) ::usleep(10'000);
      const std::string answer =
          cat("HTTP/1.1 ", reply.status, " X\r\nConnection: close\r\n", reply.headers,
              "Content-Length: ", reply.body.size(), "\r\n\r\n", reply.body);
      (void)!::send(client.raw(), answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }
  static std::string read_request(sys::FdRef client) {
    std::string text;
    std::array<char, 4096> buffer{};
    while (true) {
      const size_t head = text.find("\r\n\r\n");
      if (head != std::string::npos) {
        const size_t at = text.find("Content-Length: ");
        const size_t size = at == std::string::npos ? 0 : std::stoul(text.substr(at + 16));
        if (text.size() >= head + 4 + size) return text;
      }
      const ssize_t got = ::recv(client.raw(), buffer.data(), buffer.size(), 0);
      if (got <= 0) return {};
      text.append(buffer.data(), static_cast<size_t>(got));
    }
  }
  Replies replies_;
  size_t next_ = 0;
  sys::Fd listener_;
  uint16_t port_ = 0;
  Guarded<std::vector<std::string>> requests_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

std::string body_of(const std::string& request) {
  return request.substr(request.find("\r\n\r\n") + 4);
}

Json spans_of_request(const std::string& request) {
  return Json::parse(body_of(request))["resourceSpans"][0]["scopeSpans"][0]["spans"];
}

class Lines final : public Logger {
 public:
  bool enabled(LogLevel level) const override { return level >= LogLevel::kInfo; }
  void write(LogLevel /*level*/, std::string_view text) override {
    lines_.lock()->emplace_back(text);
  }
  std::vector<std::string> all() const { return *lines_.lock(); }

 private:
  Guarded<std::vector<std::string>> lines_;
};

TracedCall call_of(const std::string& sandbox, size_t parts = 0) {
  TracedCall call;
  call.method = "/x.Y/Z";
  call.began_unix_ns = 1;
  call.took_ns = 1;
  trace::Walk walk;
  walk.sandbox_id = sandbox;
  for (size_t i = 0; i < parts; ++i)
    walk.parts.push_back({.name = "part", .begin_ns = 0, .took_ns = 1, .depth = 0});
  call.walks = {walk};
  return call;
}

class Export : public testing::Test {
 protected:
  static constexpr ExportPace kFast{.queue_spans = 100,
                                    .batch_spans = 10,
                                    .wait_ms = 20,
                                    .timeout_ms = 2'000,
                                    .pause_ms = 10,
                                    .most_pause_ms = 100,
                                    .patience_ms = 10'000};
  std::unique_ptr<Exporter> open(const std::string& endpoint, ExportPace pace = kFast,
                                 size_t per_million = kAllOfAMillion) {
    const MakeId make_id = [this](size_t bytes) {
      std::string id = cat(++ids_);
      id.resize(bytes, 'x');
      return id;
    };
    return std::make_unique<Exporter>(
        TracingOptions{
            .endpoint = endpoint, .sampling_per_million = per_million, .service_name = "s"},
        SpanSource{.service_name = "s", .service_version = "1", .host_name = "h"}, make_id, counts_,
        log_, pace);
  }
  template <class Condition>
  static bool comes_true(Condition condition) {
    for (int i = 0; i < 500; ++i) {
      if (condition()) return true;
      ::usleep(10'000);
    }
    return false;
  }
  static int64_t took_ms(const std::function<void()>& what) {
    const int64_t before = now_boot_ns();
    what();
    return (now_boot_ns() - before) / 1'000'000;
  }
  std::atomic<int> ids_{0};
  SpanCounts counts_;
  Lines log_;
};

TEST_F(Export, SendsWalksInBatches) {
  FakeCollector collector;
  ExportPace pace = kFast;
  pace.wait_ms = 60'000;  // a full batch alone is a reason
  const auto exporter = open(collector.endpoint() + "/", pace);
  for (int i = 0; i < 3; ++i) exporter->add(call_of(cat("s", i), 4));  // 15 spans
  ASSERT_TRUE(comes_true([&] { return counts_.sent == 10; }));
  const auto requests = collector.requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_THAT(requests[0], testing::StartsWith("POST /v1/traces HTTP/1.1\r\n"));
  EXPECT_THAT(requests[0], testing::HasSubstr("\r\nContent-Type: application/json\r\n"));
  EXPECT_EQ(spans_of_request(requests[0]).size(), 10U);
  exporter->stop(Deadline::after_ms(2'000));
  EXPECT_EQ(counts_.sent, 15U);
  EXPECT_EQ(collector.requests().size(), 2U);
  EXPECT_THAT(log_.all(), testing::IsEmpty());
}

TEST_F(Export, SendsAfterAWhileWhatDoesNotFillABatch) {
  FakeCollector collector;
  const auto exporter = open(collector.endpoint());
  exporter->add(call_of("s1"));
  EXPECT_TRUE(comes_true([&] { return counts_.sent == 1; }));
}

TEST_F(Export, ObeysTheCallerAndTheRatio) {
  FakeCollector collector;
  const auto exporter = open(collector.endpoint(), kFast, 0);
  TracedCall called = call_of("called");
  called.origin =
      Origin{.trace_id = std::string(16, 't'), .span_id = std::string(8, 'p'), .sampled = true};
  TracedCall unsampled = called;
  unsampled.origin->sampled = false;
  exporter->add(call_of("nobody's"));
  exporter->add(unsampled);
  exporter->add(called);
  exporter->stop(Deadline::after_ms(2'000));
  ASSERT_EQ(collector.requests().size(), 1U);
  const Json spans = spans_of_request(collector.requests()[0]);
  ASSERT_EQ(spans.size(), 1U);
  EXPECT_EQ(spans[0]["traceId"], to_hex(std::string(16, 't')));
  EXPECT_EQ(counts_.sent, 1U);
  EXPECT_EQ(counts_.dropped, 0U);
}

TEST_F(Export, TriesAgainWhereTheCollectorIsBusy) {
  FakeCollector collector(
      Replies{{.status = 503}, {.status = 429, .headers = "Retry-After: 1\r\n"}});
  ExportPace pace = kFast;
  pace.most_pause_ms = 1'000;
  const auto exporter = open(collector.endpoint(), pace);
  const int64_t ms = took_ms([&] {
    exporter->add(call_of("s1"));
    ASSERT_TRUE(comes_true([&] { return counts_.sent == 1; }));
  });
  EXPECT_GE(ms, 1'000);  // as it asked
  const auto requests = collector.requests();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_EQ(body_of(requests[0]), body_of(requests[2]));
  EXPECT_EQ(counts_.dropped + counts_.refused, 0U);
  const auto lines = log_.all();
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_THAT(lines[0], testing::HasSubstr("status 503"));
  EXPECT_THAT(lines[1], testing::HasSubstr("takes spans again"));
}

TEST_F(Export, WhatIsRefusedIsNotSentAgain) {
  FakeCollector collector({{.status = 400, .body = "no"},
                           {.status = 200, .body = R"({"partialSuccess":{"rejectedSpans":"2"}})"}});
  const auto exporter = open(collector.endpoint());
  exporter->add(call_of("s1"));
  ASSERT_TRUE(comes_true([&] { return counts_.refused == 1; }));
  exporter->add(call_of("s2", 4));
  ASSERT_TRUE(comes_true([&] { return counts_.sent == 3; }));
  EXPECT_EQ(counts_.refused, 3U);
  EXPECT_EQ(collector.requests().size(), 2U);
}

TEST_F(Export, ADeadEndpointHoldsNobodyUp) {
  std::string endpoint;
  {
    FakeCollector gone;
    endpoint = gone.endpoint();
  }
  const auto exporter = open(endpoint);
  const int64_t ms = took_ms([&] {
    for (int i = 0; i < 1'000; ++i) exporter->add(call_of("s"));
  });
  EXPECT_LT(ms, 500);
  EXPECT_GE(counts_.dropped, 800U);  // a hundred find room in the queue, some in the first batches
  EXPECT_LT(took_ms([&] { exporter->stop(Deadline::after_ms(200)); }), 1'500);
  EXPECT_EQ(counts_.dropped, 1'000U);
  EXPECT_EQ(log_.all().size(), 1U);  // not one a failure
}

TEST_F(Export, ASlowCollectorHoldsNobodyUp) {
  FakeCollector collector(Replies{{.status = 200, .body = "{}", .delay_ms = 60'000}});
  ExportPace pace = kFast;
  pace.timeout_ms = 60'000;
  const auto exporter = open(collector.endpoint(), pace);
  exporter->add(call_of("s1"));
  ASSERT_TRUE(comes_true([&] { return collector.requests().size() == 1; }));
  EXPECT_LT(took_ms([&] {
              for (int i = 0; i < 100; ++i) exporter->add(call_of("s"));
            }),
            200);
  EXPECT_LT(took_ms([&] { exporter->stop(Deadline::after_ms(200)); }), 3'000);
  EXPECT_EQ(counts_.sent, 0U);
  EXPECT_EQ(counts_.dropped, 101U);
}

TEST_F(Export, AnAnswerThatDoesNotComeInTimeIsTriedAgain) {
  FakeCollector collector(Replies{{.status = 200, .body = "{}", .delay_ms = 300}});
  ExportPace pace = kFast;
  pace.timeout_ms = 100;
  const auto exporter = open(collector.endpoint(), pace);
  exporter->add(call_of("s1"));
  ASSERT_TRUE(comes_true([&] { return counts_.sent == 1; }));
  EXPECT_GE(collector.requests().size(), 2U);
}

TEST_F(Export, PatienceWithOneBatchEnds) {
  FakeCollector collector(
      {{.status = 503}, {.status = 503}, {.status = 503}, {.status = 503}, {.status = 503}});
  ExportPace pace = kFast;
  pace.patience_ms = 60;
  const auto exporter = open(collector.endpoint(), pace);
  exporter->add(call_of("s1"));
  ASSERT_TRUE(comes_true([&] { return counts_.dropped == 1; }));
  EXPECT_LE(collector.requests().size(), 4U);
}

TEST_F(Export, AtTheEndWhatWaitsIsTriedOnceMore) {
  FakeCollector collector(Replies{{.status = 503}});
  ExportPace pace = kFast;
  pace.pause_ms = pace.most_pause_ms = 60'000;
  pace.patience_ms = 600'000;
  const auto exporter = open(collector.endpoint(), pace);
  exporter->add(call_of("s1"));
  ASSERT_TRUE(comes_true([&] { return collector.requests().size() == 1; }));
  ::usleep(50'000);
  exporter->add(call_of("s2"));
  EXPECT_LT(took_ms([&] { exporter->stop(Deadline::after_ms(2'000)); }), 1'500);
  EXPECT_EQ(counts_.sent, 2U);
  exporter->add(call_of("late"));
  EXPECT_EQ(counts_.dropped, 1U);
}

}  // namespace
}  // namespace fluyt::daemon
