#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <csignal>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluytd/metrics/counters.h"
#include "cmd/fluytd/metrics/exposition.h"
#include "cmd/fluytd/metrics/process.h"
#include "cmd/fluytd/metrics/server.h"
#include "sys/file.h"
#include "sys/socket.h"

namespace fluyt::daemon {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(Histogram, CountsBySizeAndSumsUp) {
  Histogram histogram;
  histogram.observe_ns(400'000);          // 0.4 ms
  histogram.observe_ns(500'000);          // a bound is within
  histogram.observe_ns(3'000'000);        // 3 ms
  histogram.observe_ns(500'000'000'000);  // beyond all
  histogram.observe_ns(-5);               // a clock that went back
  const auto values = histogram.values();
  EXPECT_EQ(values.up_to.front(), 3U);
  EXPECT_EQ(values.up_to.back(), 4U);
  EXPECT_EQ(values.count, 5U);
  EXPECT_NEAR(values.sum_seconds, 500.0039, 0.0001);
}

TEST(Exposition, IsWhatPrometheusReads) {
  Exposition page;
  page.family("fluyt_x_total", Exposition::Type::kCounter, "What x is.");
  page.sample({}, uint64_t{18'446'744'073'709'551'615U});
  page.family("fluyt_y", Exposition::Type::kGauge, "What y is.");
  page.sample({{"a", "one \"two\" \\ \n"}, {"b", ""}}, 0.1);
  EXPECT_EQ(page.take(),
            "# HELP fluyt_x_total What x is.\n# TYPE fluyt_x_total counter\n"
            "fluyt_x_total 18446744073709551615\n"
            "# HELP fluyt_y What y is.\n# TYPE fluyt_y gauge\n"
            "fluyt_y{a=\"one \\\"two\\\" \\\\ \\n\",b=\"\"} 0.1\n");
}

TEST(Exposition, HistogramsHaveBucketsSumAndCount) {
  Histogram histogram;
  histogram.observe_ns(20'000'000);
  Exposition page;
  page.family("fluyt_z_seconds", Exposition::Type::kHistogram, "What z is.");
  page.sample({{"m", "x"}}, histogram.values());
  const std::string text = page.take();
  EXPECT_THAT(text, HasSubstr("\nfluyt_z_seconds_bucket{m=\"x\",le=\"0.01\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("\nfluyt_z_seconds_bucket{m=\"x\",le=\"0.025\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\nfluyt_z_seconds_bucket{m=\"x\",le=\"+Inf\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\nfluyt_z_seconds_sum{m=\"x\"} 0.02\n"));
  EXPECT_THAT(text, HasSubstr("\nfluyt_z_seconds_count{m=\"x\"} 1\n"));
}

TEST(CallTable, IsBoundedWhateverNamesComeIn) {
  CallTable table;
  for (int i = 0; i < 10'000; ++i) table.of("service", std::to_string(i)).end(0, 1);
  EXPECT_LE(table.all().size(), 257U);
  Calls& other = table.of("service", "one more");
  EXPECT_EQ(&other, &table.of("other", "other"));
  EXPECT_GT(other.took.values().count, 9000U);
}

TEST(CallTable, AnUnknownCodeIsUnknown) {
  CallTable table;
  Calls& calls = table.of("a", "b");
  ++calls.running;
  calls.end(99, 1);
  EXPECT_EQ(calls.ended[2], 1U);
  EXPECT_EQ(calls.running, 0);
}

TEST(Process, IsThisOne) {
  const auto usage = own_usage();
  ASSERT_TRUE(usage.ok()) << usage.error().message();
  EXPECT_GT(usage->resident_bytes, 1UL << 20U);
  EXPECT_GT(usage->virtual_bytes, usage->resident_bytes);
  EXPECT_GE(usage->threads, 1U);
  EXPECT_GE(usage->open_fds, 3U);
  EXPECT_GT(usage->max_fds, usage->open_fds);
  EXPECT_NEAR(usage->started_at, static_cast<double>(now_unix_ns()) / 1e9, 60);
}

TEST(MetricsAddress, IsASocketOrAnIpAndAPort) {
  EXPECT_EQ(parse_metrics_address("unix:/run/x")->unix_path, "/run/x");
  EXPECT_EQ(parse_metrics_address("127.0.0.1:9")->port, 9);
  EXPECT_EQ(parse_metrics_address("[::1]:9")->ip, "::1");
  for (const char* wrong : {"", "unix:x", "9100", ":9100", "localhost:9100", "::1:9",
                            "1.2.3.4:", "1.2.3.4:70000", "1.2.3.4:-1", "[::1]", "[1.2.3.4]x:1"}) {
    EXPECT_FALSE(parse_metrics_address(wrong).ok()) << wrong;
  }
}

class Served : public testing::Test {
 protected:
  static void SetUpTestSuite() { (void)std::signal(SIGPIPE, SIG_IGN); }
  void SetUp() override {
    path_ = folder_.path() + "/metrics.sock";
    auto server =
        MetricsServer::start("unix:" + path_, [] { return std::string("fluyt_x 1\n"); }, logger_);
    ASSERT_TRUE(server.ok()) << server.error().message();
    server_ = std::move(*server);
  }
  sys::Fd client() const {
    sys::Fd socket = std::move(*sys::connect_unix(path_, SOCK_STREAM));
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(socket.raw(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return socket;
  }
  std::string asked(const std::string& request) const {
    const sys::Fd socket = client();
    sys::write_all(socket, request).ignore("the server may refuse before it has read it all");
    const auto text = sys::read_all(socket, 1UL << 20U);
    return text.ok() ? *text : std::string("(reset)");
  }
  NullLogger logger_;
  sys::TempDir folder_ = std::move(*sys::TempDir::create());
  std::string path_;
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(Served, ThePageAndNothingElse) {
  const std::string page = asked("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_THAT(page, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(page, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_TRUE(page.ends_with("\r\n\r\nfluyt_x 1\n"));
  EXPECT_THAT(asked("GET /metrics?x=1 HTTP/1.0\r\n\r\n"), HasSubstr(" 200 "));
  EXPECT_TRUE(asked("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ends_with("\r\n\r\n"));
  EXPECT_THAT(asked("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(asked("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
}

TEST_F(Served, WhatIsNoRequestGetsNoAnswer) {
  EXPECT_THAT(asked("rubbish\r\n\r\n"), testing::AnyOf("", "(reset)"));
  EXPECT_THAT(asked("GET /metrics HTTP/1.1\r\nX: " + std::string(1UL << 20U, 'x') + "\r\n\r\n"),
              testing::AnyOf("", "(reset)"));
  EXPECT_THAT(asked("GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\nx"),
              testing::AnyOf("", "(reset)"));
  EXPECT_THAT(asked("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), HasSubstr(" 200 "));
}

TEST_F(Served, ThoseThatSayNothingKeepNobodyOut) {
  std::vector<sys::Fd> silent;
  for (int i = 0; i < 16; ++i) silent.push_back(client());
  silent.front().reset();
  std::string page;
  for (int i = 0; i < 200 && page.empty(); ++i) {  // until the server has seen it go
    page = asked("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    if (page == "(reset)") page.clear();
  }
  EXPECT_THAT(page, HasSubstr(" 200 "));
}

TEST_F(Served, TheSocketIsOursAloneAndGoesWithUs) {
  struct stat info{};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0660U);
  server_.reset();
  EXPECT_FALSE(sys::exists(path_));
}

TEST(ServedByTcp, HasAPortAndNamesOneThatIsTaken) {
  NullLogger logger;
  const auto first =
      MetricsServer::start("127.0.0.1:0", [] { return std::string("x 1\n"); }, logger);
  ASSERT_TRUE(first.ok()) << first.error().message();
  const std::string where = (*first)->where();
  ASSERT_THAT(where, StartsWith("http://127.0.0.1:"));
  const std::string address =
      where.substr(7, where.size() - 7 - std::string_view("/metrics").size());
  const auto second = MetricsServer::start(address, [] { return std::string("x 1\n"); }, logger);
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message(), StartsWith(cat("metrics.listen: ", address, ": ")));
}

}  // namespace
}  // namespace fluyt::daemon
