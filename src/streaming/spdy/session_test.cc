#include "streaming/spdy/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace fluyt::streaming::spdy {
namespace {

using testing::ElementsAre;

/// What the client reads of the session.
class Peer final : public FrameVisitor {
 public:
  std::vector<std::string> seen;
  void on_syn_stream(const SynStream& frame) override { seen.push_back(cat("syn ", frame.id)); }
  void on_syn_reply(uint32_t stream, bool /*fin*/) override {
    seen.push_back(cat("reply ", stream));
  }
  void on_data(uint32_t stream, std::string_view bytes) override {
    seen.push_back(cat("data ", stream, " ", bytes));
  }
  void on_fin(uint32_t stream) override { seen.push_back(cat("fin ", stream)); }
  void on_reset(uint32_t stream, uint32_t status) override {
    seen.push_back(cat("reset ", stream, " ", status));
  }
  void on_ping(uint32_t id) override { seen.push_back(cat("ping ", id)); }
  void on_go_away() override { seen.emplace_back("goaway"); }
};

class SpdySession : public testing::Test, public SessionHandler {
 protected:
  bool on_stream(uint32_t id, const Headers& headers) override {
    heard.push_back(cat("open ", id));
    return !find_header(headers, "refuse");
  }
  void on_stream_data(uint32_t id, std::string_view bytes) override {
    heard.push_back(cat("data ", id, " ", bytes));
  }
  void on_stream_end(uint32_t id) override { heard.push_back(cat("end ", id)); }
  void on_stream_reset(uint32_t id) override { heard.push_back(cat("reset ", id)); }

  bool open(uint32_t id, bool fin = false, Headers headers = {}) {
    return session
        .feed(write_syn_stream({.id = id, .fin = fin, .headers = std::move(headers)}, deflater))
        .ok();
  }

  std::vector<std::string> heard;
  Peer peer;
  FrameReader back{peer};
  HeaderDeflater deflater;
  Session session{*this, 2, [this](std::string bytes) { ASSERT_TRUE(back.feed(bytes).ok()); }};
};

TEST_F(SpdySession, AStreamIsAnsweredAndEndsWhenBothSidesAreDone) {
  ASSERT_TRUE(open(1));
  ASSERT_TRUE(session.feed(write_data(1, "in", true)).ok());
  EXPECT_TRUE(session.is_open(1));
  session.write(1, "out");
  session.finish(1);
  session.write(1, "too late");
  EXPECT_FALSE(session.is_open(1));
  EXPECT_THAT(heard, ElementsAre("open 1", "data 1 in", "end 1"));
  EXPECT_THAT(peer.seen, ElementsAre("reply 1", "data 1 out", "fin 1"));
}

TEST_F(SpdySession, AStreamBornHalfClosedTakesNoData) {
  ASSERT_TRUE(open(1, true));
  ASSERT_TRUE(session.feed(write_data(1, "no", false)).ok());
  EXPECT_THAT(heard, ElementsAre("open 1", "end 1"));
}

TEST_F(SpdySession, AResetEndsBothDirections) {
  ASSERT_TRUE(open(1));
  ASSERT_TRUE(session.feed(write_reset(1, ResetStatus::kCancel)).ok());
  session.write(1, "nobody hears it");
  ASSERT_TRUE(session.feed(write_data(1, "nor this", true)).ok());
  EXPECT_THAT(heard, ElementsAre("open 1", "reset 1"));
  EXPECT_THAT(peer.seen, ElementsAre("reply 1"));
}

TEST_F(SpdySession, MoreStreamsThanTheLimitAreRefused) {
  ASSERT_TRUE(open(1));
  ASSERT_TRUE(open(3));
  ASSERT_TRUE(open(5));
  EXPECT_THAT(heard, ElementsAre("open 1", "open 3"));
  EXPECT_THAT(peer.seen, ElementsAre("reply 1", "reply 3", "reset 5 3"));
}

TEST_F(SpdySession, TheHandlerMayRefuse) {
  ASSERT_TRUE(open(1, false, {{"refuse", "yes"}}));
  EXPECT_THAT(peer.seen, ElementsAre("reply 1", "reset 1 3"));
  EXPECT_EQ(session.stream_count(), 0U);
}

TEST_F(SpdySession, NumbersOnlyRise) {
  ASSERT_TRUE(open(3));
  EXPECT_FALSE(open(3));
  EXPECT_THAT(peer.seen, ElementsAre("reply 3", "goaway"));
}

TEST_F(SpdySession, EvenNumbersAreOurs) { EXPECT_FALSE(open(2)); }

TEST_F(SpdySession, ARepliedStreamThatNobodyOpenedBreaksTheSession) {
  EXPECT_FALSE(session.feed(write_syn_reply(2, {}, deflater)).ok());
}

TEST_F(SpdySession, PingsOfTheClientComeBack) {
  ASSERT_TRUE(session.feed(write_ping(3) + write_ping(4)).ok());
  EXPECT_THAT(peer.seen, ElementsAre("ping 3"));
}

TEST_F(SpdySession, AfterGoAwayNoStreamIsTaken) {
  session.go_away();
  ASSERT_TRUE(open(1));
  EXPECT_TRUE(heard.empty());
  EXPECT_THAT(peer.seen, ElementsAre("goaway"));
}

}  // namespace
}  // namespace fluyt::streaming::spdy
