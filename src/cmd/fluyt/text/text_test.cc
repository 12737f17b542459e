#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/text/detach_keys.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/log_line.h"
#include "cmd/fluyt/text/nearest.h"
#include "cmd/fluyt/text/ports.h"
#include "cmd/fluyt/text/progress.h"
#include "cmd/fluyt/text/run_values.h"
#include "cmd/fluyt/text/table.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Nearest, IsWhatWasMeantOrNothing) {
  const std::vector<std::string> names{"images", "image tree", "inspect", "ps",
                                       "pods",   "logs",       "rm"};
  EXPECT_EQ(nearest("imges", names), "images");
  EXPECT_EQ(nearest("iamges", names), "images") << "two letters swapped";
  EXPECT_EQ(nearest("log", names), "logs");
  EXPECT_EQ(nearest("pss", names), "ps");
  EXPECT_EQ(nearest("start", names), "");
  EXPECT_EQ(nearest("x", names), "") << "all of it would have to change";
  EXPECT_EQ(nearest("", names), "");
  EXPECT_EQ(nearest(std::string(100'000, 'i'), names), "");
}

// What is passed on of what is typed, a key at a time and all at once.
std::pair<std::string, bool> typed_through(std::string_view keys, const std::string& typed) {
  DetachKeys one = DetachKeys::parse(keys).value();
  DetachKeys whole = DetachKeys::parse(keys).value();
  std::string passed;
  bool detached = false;
  for (const char key : typed) {
    if (detached) break;
    const DetachKeys::Passed now = one.pass(std::string_view(&key, 1));
    passed += now.typed;
    detached = now.detached;
  }
  const DetachKeys::Passed at_once = whole.pass(typed);
  EXPECT_EQ(at_once.typed, passed);
  EXPECT_EQ(at_once.detached, detached);
  return {passed, detached};
}

TEST(DetachKeys, AreFoundInWhatIsTyped) {
  using Typed = std::pair<std::string, bool>;
  EXPECT_EQ(typed_through(kDetachKeys, "ls\r\x10\x11more"), Typed("ls\r", true));
  EXPECT_EQ(typed_through(kDetachKeys, "a\x10z"), Typed("a\x10z", false)) << "only the first";
  EXPECT_EQ(typed_through(kDetachKeys, "\x10\x10\x11"), Typed("\x10", true)) << "begun twice";
  EXPECT_EQ(typed_through(kDetachKeys, "\x11\x10"), Typed("\x11", false))
      << "the second is awaited";
  EXPECT_EQ(typed_through("a,a,b", "aaab"), Typed("a", true)) << "an end that begins them anew";
  EXPECT_EQ(typed_through("a,a,b", "aac"), Typed("aac", false));
  EXPECT_EQ(typed_through("", "\x10\x11"), Typed("\x10\x11", false));
  for (const char* wrong : {"ctrl-", "ctrl-1", "ctrl-p,", "ab", "\x01"})
    EXPECT_FALSE(DetachKeys::parse(wrong).ok()) << wrong;
}

TEST(Escape, WhatATerminalWouldObeyIsShownInstead) {
  EXPECT_EQ(printable("a\x1b]0;title\x07z"), "a\\x1b]0;title\\x07z");
  EXPECT_EQ(printable("x\xc2\x9b"
                      "31m"),
            "x\\xc2\\x9b31m")
      << "C1's own CSI";
  EXPECT_EQ(printable("\xe2\x80\xae"
                      "gnp.exe"),
            "\\xe2\\x80\\xaegnp.exe");
  EXPECT_EQ(printable("a\nb\xff"), "a\\nb\\xff");
  EXPECT_EQ(printable("grüß 船"), "grüß 船");
}

TEST(Escape, LogsKeepColoursAndTabsAlone) {
  EXPECT_EQ(printable_log("\x1b[1;31mred\x1b[0m\tx"), "\x1b[1;31mred\x1b[0m\tx");
  EXPECT_EQ(printable_log("\x1b[2J\x1b]52;c;x\x07\r"), "\\x1b[2J\\x1b]52;c;x\\x07\\x0d");
  EXPECT_EQ(printable_log("\x1b["), "\\x1b[");
}

TEST(Escape, FitCutsCharactersNotBytes) {
  EXPECT_EQ(fit("grüße", 5), "grüße");
  EXPECT_EQ(fit("grüße!", 5), "grüß…");
  EXPECT_EQ(fit("ab", 0), "");
}

TEST(Table, ColumnsAreAlignedAndLinesHaveNoTail) {
  Table table({"NAME", "ID", "STATUS"});
  table.add({"wéb", "4f2a", ""});
  table.add({"a-longer-name", "1", "Up\x1b[2J"});
  EXPECT_EQ(table.text(),
            "NAME            ID     STATUS\n"
            "wéb             4f2a\n"
            "a-longer-name   1      Up\\x1b[2J\n");
}

TEST(Units, SizesHaveThreeDigits) {
  EXPECT_EQ(human_size(0), "0B");
  EXPECT_EQ(human_size(999), "999B");
  EXPECT_EQ(human_size(1000), "1.00kB");
  EXPECT_EQ(human_size(4'261'550), "4.26MB");
  EXPECT_EQ(human_size(42'615'500), "42.6MB");
  EXPECT_EQ(human_size(219'000'000), "219MB");
  EXPECT_EQ(human_size(999'999'999), "1.00GB");
  EXPECT_EQ(human_memory(786'432), "768KiB");
  EXPECT_EQ(human_memory(1'610'612'736), "1.50GiB");
}

TEST(Units, AgesAreRead) {
  EXPECT_EQ(ago(1'000'000'000, 241'000'000'000), "4 minutes ago");
  EXPECT_EQ(ago(0, 5), "");
}

TEST(Units, ShortIdsLoseTheAlgorithm) {
  EXPECT_EQ(short_id("sha256:0123456789abcdef"), "0123456789ab");
  EXPECT_EQ(short_id("0123"), "0123");
}

TEST(Units, SizesArePowersOf1024) {
  EXPECT_EQ(parse_size("512m").value(), 512U << 20U);
  EXPECT_EQ(parse_size("1G").value(), 1U << 30U);
  EXPECT_EQ(parse_size("2MiB").value(), 2U << 20U);
  EXPECT_EQ(parse_size("100").value(), 100U);
  for (const char* text :
       {"", "m", "-1", "1.5g", "1x", "1mm", "99999999999999999999", "20000000t"}) {
    EXPECT_FALSE(parse_size(text).ok()) << text;
  }
}

TEST(Units, CpusBecomeAQuota) {
  EXPECT_EQ(parse_cpus("1.5").value(), 150'000);
  EXPECT_EQ(parse_cpus("2").value(), 200'000);
  EXPECT_EQ(parse_cpus("0.123456").value(), 12'345);
  for (const char* text : {"", "0", "-1", "1.2.3", "x", "1.x", ".", "0.00001"}) {
    EXPECT_FALSE(parse_cpus(text).ok()) << text;
  }
}

TEST(Units, SinceIsADurationOrATime) {
  constexpr int64_t kNow = 1'000'000'000'000'000;
  EXPECT_EQ(parse_since("1h30m", kNow).value(), kNow - 5'400'000'000'000);
  EXPECT_EQ(parse_since("1970-01-01T00:00:01Z", kNow).value(), 1'000'000'000);
  for (const char* text : {"", "5", "m", "5y", "1h-3m", "yesterday", "999999999999d"}) {
    EXPECT_FALSE(parse_since(text, kNow).ok()) << text;
  }
}

constexpr const char* kStamp = "2026-01-02T03:04:05.000000006Z";

TEST(LogLine, IsParsedAndBackAgain) {
  auto line = parse_log_line(cat(kStamp, " stderr F two  words "));
  ASSERT_TRUE(line.has_value());
  EXPECT_TRUE(line->is_stderr);
  EXPECT_EQ(line->text, "two  words ");
  EXPECT_EQ(format_log_line(*line, Timestamps::kShown), cat(kStamp, " two  words \n"));
  EXPECT_EQ(format_log_line(*line, Timestamps::kNone), "two  words \n");
  EXPECT_TRUE(parse_log_line(cat(kStamp, " stdout F:x "))->text.empty());
  for (const char* text : {"", "x", "2026 stdout F a", "2026-01-02T03:04:05Z out F a",
                           "2026-01-02T03:04:05Z stdout"}) {
    EXPECT_FALSE(parse_log_line(text).has_value()) << text;
  }
}

TEST(LogReader, PutsPiecesOfEachStreamTogetherHoweverTheBytesCome) {
  const std::string file = cat(kStamp, " stdout P ab\n", kStamp, " stderr F err\n", "torn\n",
                               kStamp, " stdout F cd\n", kStamp, " stdout P end");
  LogReader whole;
  std::vector<LogLine> at_once;
  whole.feed(file, at_once);
  LogReader bytewise;
  std::vector<LogLine> by_bytes;
  for (const char c : file) bytewise.feed({&c, 1}, by_bytes);
  EXPECT_EQ(at_once, by_bytes);
  ASSERT_EQ(at_once.size(), 2U);
  EXPECT_EQ(at_once[0].text, "err");
  EXPECT_EQ(at_once[1].text, "abcd");
  EXPECT_FALSE(at_once[1].partial);
}

TEST(LogReader, AnUnfinishedLineIsGivenAtTheEnd) {
  LogReader reader;
  std::vector<LogLine> lines;
  reader.feed(cat(kStamp, " stdout P half\n"), lines);
  EXPECT_TRUE(lines.empty());
  reader.finish(lines);
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_EQ(format_log_line(lines[0], Timestamps::kNone), "half");
}

TEST(LogFilter, TailAndSince) {
  std::vector<LogLine> lines;
  for (int i = 1; i <= 5; ++i) lines.push_back({.time = i, .text = std::to_string(i)});
  EXPECT_EQ(select(lines, {}).size(), 5U);
  EXPECT_EQ(select(lines, {.tail = 2}).front().text, "4");
  EXPECT_EQ(select(lines, {.tail = 0}).size(), 0U);
  EXPECT_EQ(select(lines, {.since = 4}).front().text, "4");
  EXPECT_EQ(select(lines, {.tail = 9, .since = 5}).size(), 1U);
}

LayerState layer(const char* digest, LayerState::Phase phase, uint64_t done = 0,
                 uint64_t total = 0) {
  return {.digest = digest, .phase = phase, .done = done, .total = total};
}

TEST(Progress, LinesShowEachLayersState) {
  PullState state;
  EXPECT_TRUE(state.update(layer("sha256:aaaaaaaaaaaaaaaa", LayerState::Phase::kWaiting)));
  EXPECT_TRUE(state.update(layer("sha256:bbbbbbbbbbbbbbbb", LayerState::Phase::kExists)));
  EXPECT_TRUE(
      state.update(layer("sha256:cccccccccccccccc", LayerState::Phase::kDone, 0, 4'260'000)));
  EXPECT_TRUE(
      state.update(layer("sha256:aaaaaaaaaaaaaaaa", LayerState::Phase::kFetching, 500, 1000)));
  EXPECT_FALSE(
      state.update(layer("sha256:aaaaaaaaaaaaaaaa", LayerState::Phase::kFetching, 750, 1000)));
  EXPECT_THAT(render(state, 43, 10),
              ElementsAre("aaaaaaaaaaaa  [==========>   ]  750B/1.00kB",
                          "bbbbbbbbbbbb  already here", "cccccccccccc  done  4.26MB"));
}

TEST(Progress, NoLineIsWiderThanTheTerminalNorMoreThanItsRows) {
  PullState state;
  for (int i = 0; i < 60; ++i) {
    const auto phase = i % 3 == 0 ? LayerState::Phase::kDone : LayerState::Phase::kFetching;
    state.update(layer(cat("sha256:", i, "ffffffffffff").c_str(), phase,
                       static_cast<uint64_t>(i) * 1000, 99'000));
  }
  for (size_t width = 1; width < 130; ++width) {
    for (const size_t height : {1U, 5U, 24U, 100U}) {
      const auto lines = render(state, width, height);
      EXPECT_LE(lines.size(), height);
      for (const std::string& line : lines) EXPECT_LE(columns_of(line), width) << line;
    }
  }
  EXPECT_EQ(render(state, 40, 5)[0], "20 of 60 layers done");
}

TEST(Progress, RedrawGoesBackOverWrappedRows) {
  EXPECT_EQ(rows_of({"12345", "", "1234567890"}, 5), 4U);
  EXPECT_EQ(redraw({}, {"a"}, 80), "\x1b[Ja\n");
  EXPECT_EQ(redraw({"123456", "b"}, {"c"}, 5), "\x1b[3A\r\x1b[Jc\n");
}

TEST(Progress, PlainLines) {
  EXPECT_EQ(plain_line(layer("sha256:aaaaaaaaaaaaaaaa", LayerState::Phase::kFetching, 1, 2000)),
            "aaaaaaaaaaaa: fetching 2.00kB");
}

TEST(Progress, LinesShowRateAndTimeLeftWhereThereIsRoom) {
  constexpr int64_t kSecondNs = 1'000'000'000;
  PullState state;
  const char* id = "sha256:aaaaaaaaaaaaaaaa";
  state.update(layer(id, LayerState::Phase::kFetching, 0, 100'000'000), kSecondNs);
  state.update(layer(id, LayerState::Phase::kFetching, 1'000'000, 100'000'000),
               kSecondNs + kSecondNs / 10);  // too soon to tell
  EXPECT_EQ(render(state, 80, 10)[0].find("/s"), std::string::npos);
  state.update(layer(id, LayerState::Phase::kFetching, 10'000'000, 100'000'000), 2 * kSecondNs);
  EXPECT_THAT(
      render(state, 80, 10),
      ElementsAre("aaaaaaaaaaaa  [===>                           ]  10.0MB/100MB  10.0MB/s  "
                  "9s left"));
  EXPECT_THAT(render(state, 40, 10), ElementsAre("aaaaaaaaaaaa  [=>        ]  10.0MB/100MB"));
  EXPECT_THAT(render(state, 20, 10), ElementsAre("aaaaaaaaaaaa  10.0M…"));
  // Half as fast from now on, told slowly.
  state.update(layer(id, LayerState::Phase::kFetching, 15'000'000, 100'000'000), 3 * kSecondNs);
  EXPECT_EQ(state.rate_of(state.layers()[0]), 8'500'000U);
  // From another server, from the start.
  state.update(layer(id, LayerState::Phase::kFetching, 0, 100'000'000), 4 * kSecondNs);
  EXPECT_EQ(state.rate_of(state.layers()[0]), 0U);
}

TEST(Progress, WordsAreTheVerbs) {
  PullState push(Verb::kPush);
  push.update(layer("sha256:aaaaaaaaaaaaaaaa", LayerState::Phase::kExists, 0, 10));
  push.update(layer("sha256:bbbbbbbbbbbbbbbb", LayerState::Phase::kDone, 10, 10));
  EXPECT_THAT(render(push, 80, 10),
              ElementsAre("aaaaaaaaaaaa  already there", "bbbbbbbbbbbb  pushed  10B"));
  EXPECT_EQ(plain_line(push.layers()[1], Verb::kPush), "bbbbbbbbbbbb: pushed, 10B");
  EXPECT_EQ(plain_line(push.layers()[1], Verb::kLoad), "bbbbbbbbbbbb: loaded, 10B");
}

TEST(Progress, ShortDurations) {
  EXPECT_EQ(short_duration(0), "0s");
  EXPECT_EQ(short_duration(59), "59s");
  EXPECT_EQ(short_duration(185), "3m05s");
  EXPECT_EQ(short_duration(7800), "2h10m");
  EXPECT_EQ(short_duration(864000), "10d");
}

TEST(RunValues, Environment) {
  const Lookup none = [](const char*) -> const char* { return nullptr; };
  const Lookup some = [](const char*) -> const char* { return "v"; };
  EXPECT_EQ(parse_env("A=b=c", none).value()->second, "b=c");
  EXPECT_EQ(parse_env("A", some).value()->second, "v");
  EXPECT_FALSE(parse_env("A", none).value().has_value());
  EXPECT_FALSE(parse_env("=x", none).ok());
}

TEST(RunValues, Volumes) {
  EXPECT_EQ(parse_volume("/a/../b/:/c/./d:ro", "/w").value(),
            (Volume{.host_path = "/b", .container_path = "/c/d", .readonly = true}));
  EXPECT_EQ(parse_volume("./x:/c", "/w").value().host_path, "/w/x");
  for (const char* text : {"", "/a", "/a:b", "name:/c", "/a:/b:z", "/a:/b:ro:x", ":/b"}) {
    EXPECT_FALSE(parse_volume(text, "/w").ok()) << text;
  }
}

TEST(RunValues, Ports) {
  EXPECT_EQ(parse_port("8080:80").value(), (Port{.host_port = 8080, .container_port = 80}));
  EXPECT_EQ(parse_port("127.0.0.1:53:5353/udp").value(), (Port{.host_ip = "127.0.0.1",
                                                               .host_port = 53,
                                                               .container_port = 5353,
                                                               .protocol = PortProtocol::kUdp}));
  EXPECT_EQ(parse_port("[::1]:1:2").value().host_ip, "::1");
  for (const char* text :
       {"", "80", "0:80", "80:0", "80:65536", "a:b", "1:2/icmp", "[::1:1:2", "1-2:1-2"}) {
    EXPECT_FALSE(parse_port(text).ok()) << text;
  }
}

TEST(RunValues, UsersCapabilitiesAndNames) {
  EXPECT_EQ(parse_user("1000:50").value(), (User{.uid = 1000, .gid = 50}));
  EXPECT_EQ(parse_user("nobody").value().name, "nobody");
  for (const char* text : {"", ":5", "nobody:5", "1:x", "1:2:3"})
    EXPECT_FALSE(parse_user(text).ok()) << text;
  EXPECT_EQ(parse_capability("cap_net_admin").value(), "NET_ADMIN");
  EXPECT_FALSE(parse_capability("net-admin").ok());
  EXPECT_TRUE(check_name("web-1.a_b").ok());
  for (const char* text : {"", "-x", "a/b", "a b"}) EXPECT_FALSE(check_name(text).ok()) << text;
  EXPECT_THAT(check_name("a/b").error().message(), HasSubstr("\"a/b\""));
}

TEST(Ports, AreShownAsTheyArePublished) {
  EXPECT_EQ(ports_text({}), "");
  EXPECT_EQ(
      ports_text({{"", 8080, 80, "tcp"}, {"127.0.0.1", 53, 53, "udp"}, {"::1", 1, 2, "sctp"}}),
      "8080->80/tcp, 127.0.0.1:53->53/udp, [::1]:1->2/sctp");
}

}  // namespace
}  // namespace fluyt::cli
