#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "streaming/status.h"
#include "streaming/tokens.h"
#include "streaming/upgrade.h"

namespace fluyt::streaming {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Tokens
// --------------------------------------------------------------------------------------------

TEST(Tokens, AreGoodOnce) {
  Tokens tokens;
  const std::string token = *tokens.insert(AttachCall{"c1", {}}, 0);
  EXPECT_EQ(token.size(), 32U);
  const auto taken = tokens.take("attach", token, 1);
  ASSERT_TRUE(taken);
  EXPECT_EQ(std::get<AttachCall>(*taken).container_id, "c1");
  EXPECT_FALSE(tokens.take("attach", token, 1));
}

TEST(Tokens, AreGoodForAMinute) {
  Tokens tokens;
  const std::string token = *tokens.insert(AttachCall{"c1", {}}, 0);
  EXPECT_FALSE(tokens.take("attach", token, Tokens::kLifeNs));
}

TEST(Tokens, AreGoodForTheirVerbAlone) {
  Tokens tokens;
  const std::string token = *tokens.insert(PortForwardCall{"s1"}, 0);
  EXPECT_FALSE(tokens.take("exec", token, 1));
  EXPECT_FALSE(tokens.take("portforward", token, 1));  // whoever tried has used it up
  EXPECT_FALSE(tokens.take("exec", "", 1));
}

TEST(Tokens, AreLimitedAndMakeRoomWithTime) {
  Tokens tokens;
  for (size_t i = 0; i < Tokens::kMost; ++i) {
    ASSERT_TRUE(tokens.insert(AttachCall{}, static_cast<int64_t>(i)).ok());
  }
  const auto more = tokens.insert(AttachCall{}, Tokens::kLifeNs - 1);
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().code(), Code::kResourceExhausted);
  EXPECT_TRUE(tokens.insert(AttachCall{}, Tokens::kLifeNs).ok());
  EXPECT_EQ(tokens.size(), Tokens::kMost);
}

// Upgrades
// ------------------------------------------------------------------------------------------

RequestHead spdy(const std::string& target, const std::vector<std::string>& versions) {
  RequestHead head{"POST", target, {{"connection", "Upgrade"}, {"upgrade", "SPDY/3.1"}}};
  for (const std::string& version : versions) {
    head.headers.emplace_back("x-stream-protocol-version", version);
  }
  return head;
}

RequestHead socket(const std::string& target, const std::string& protocols) {
  RequestHead head{
      "GET", target, {{"connection", "keep-alive, Upgrade"}, {"upgrade", "websocket"}}};
  if (!protocols.empty()) head.headers.emplace_back("sec-websocket-protocol", protocols);
  return head;
}

std::string told(const RequestHead& head) {
  const auto decided = decide(head);
  if (const auto* refusal = std::get_if<Refusal>(&decided)) {
    return cat(refusal->status, " ", refusal->text);
  }
  const auto& upgrade = std::get<Upgrade>(decided);
  std::string text = cat(upgrade.verb, " ", upgrade.token, " ", upgrade.protocol);
  if (const auto* how = std::get_if<SpdyUpgrade>(&upgrade.how)) {
    return cat(text, " spdy v", static_cast<int>(how->version) + 1);
  }
  const auto& how = std::get<WebSocketUpgrade>(upgrade.how);
  return cat(text, " websocket v", static_cast<int>(how.version) + 1, how.base64 ? " base64" : "",
             how.tunnel ? " tunnel" : "");
}

TEST(Upgrade, TheClientsFirstKnownChoiceCounts) {
  EXPECT_EQ(
      told(spdy("/exec/abc", {"v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io"})),
      "exec abc v4.channel.k8s.io spdy v4");
  EXPECT_EQ(told(spdy("/attach/abc?x=y", {"v2.channel.k8s.io", "v4.channel.k8s.io"})),
            "attach abc v2.channel.k8s.io spdy v2");
  EXPECT_EQ(told(socket("/exec/abc", "v5.channel.k8s.io, v4.channel.k8s.io")),
            "exec abc v5.channel.k8s.io websocket v5");
  EXPECT_EQ(told(socket("/exec/abc", "v4.base64.channel.k8s.io")),
            "exec abc v4.base64.channel.k8s.io websocket v4 base64");
  EXPECT_EQ(told(socket("/exec/abc", "base64.channel.k8s.io")),
            "exec abc base64.channel.k8s.io websocket v1 base64");
}

TEST(Upgrade, WhoAsksForNoneGetsTheOldest) {
  EXPECT_EQ(told(spdy("/exec/abc", {})), "exec abc  spdy v1");
  EXPECT_EQ(told(socket("/exec/abc", "")), "exec abc  websocket v1");
}

TEST(Upgrade, PortsGoOverSpdyOrATunnelOfIt) {
  EXPECT_EQ(told(spdy("/portforward/t", {"portforward.k8s.io"})),
            "portforward t portforward.k8s.io spdy v1");
  EXPECT_EQ(told(socket("/portforward/t", "SPDY/3.1+portforward.k8s.io")),
            "portforward t SPDY/3.1+portforward.k8s.io websocket v1 tunnel");
  EXPECT_THAT(told(socket("/portforward/t", "v4.channel.k8s.io")), HasSubstr("403"));
  EXPECT_THAT(told(socket("/portforward/t", "")), HasSubstr("asked for none"));
  EXPECT_THAT(told(spdy("/portforward/t", {"v4.channel.k8s.io"})), HasSubstr("403"));
}

TEST(Upgrade, ARefusalNamesWhatIsAccepted) {
  const auto decided = decide(spdy("/exec/abc", {"v9.channel.k8s.io"}));
  const auto& refusal = std::get<Refusal>(decided);
  EXPECT_EQ(refusal.status, 403U);
  EXPECT_THAT(refusal.text, HasSubstr("\"v9.channel.k8s.io\", expected one of v4.channel.k8s.io"));
  EXPECT_EQ(refusal.headers.front().second, "v4.channel.k8s.io");
}

TEST(Upgrade, WhatIsNoUpgradeIsToldSo) {
  EXPECT_THAT(told({"GET", "/exec/abc", {}}), HasSubstr("400 expected an upgrade"));
  EXPECT_THAT(told({"GET", "/exec/abc", {{"upgrade", "SPDY/3.1"}}}), HasSubstr("400"));
  EXPECT_THAT(told({"GET", "/exec/abc", {{"upgrade", "h2c"}, {"connection", "upgrade"}}}),
              HasSubstr("400"));
  RequestHead deleted = spdy("/exec/abc", {});
  deleted.method = "DELETE";
  EXPECT_THAT(told(deleted), HasSubstr("405"));
}

TEST(Upgrade, OtherPathsLookLikeUnknownTokens) {
  const std::string unknown = cat("404 ", unknown_token().text);
  for (const char* target :
       {"/", "", "/exec", "/exec/", "/exec/a/b", "/logs/abc", "exec/abc", "*"}) {
    EXPECT_EQ(told(spdy(target, {})), unknown) << target;
  }
}

// Ends
// ----------------------------------------------------------------------------------------------

TEST(Outcome, AnExitCodeIsACause) {
  EXPECT_EQ(outcome_text(exited(3), Version::kV4),
            R"({"details":{"causes":[{"message":"3","reason":"ExitCode"}]},)"
            R"("message":"command terminated with non-zero exit code: exit status 3",)"
            R"("metadata":{},"reason":"NonZeroExitCode","status":"Failure"})");
}

TEST(Outcome, SuccessIsSaidFromV4On) {
  EXPECT_EQ(outcome_text(exited(0), Version::kV5), R"({"metadata":{},"status":"Success"})");
  EXPECT_EQ(outcome_text(exited(0), Version::kV3), "");
}

TEST(Outcome, AnErrorIsInternal) {
  const std::string text = outcome_text(failed("no \xff such"), Version::kV4);
  EXPECT_THAT(text, HasSubstr(R"("code":500)"));
  EXPECT_THAT(text, HasSubstr("Internal error occurred: no \xef\xbf\xbd such"));
  EXPECT_EQ(outcome_text(failed("no such"), Version::kV1), "Internal error occurred: no such");
}

std::vector<std::string> sizes(const std::vector<std::string>& pieces) {
  SizeReader reader;
  std::vector<std::string> found;
  for (const std::string& piece : pieces) {
    reader.feed(piece,
                [&](TerminalSize size) { found.push_back(cat(size.width, "x", size.height)); });
  }
  return found;
}

TEST(Sizes, MayBeCutAnywhere) {
  EXPECT_THAT(sizes({R"({"Width":80,"Height":24})", "\n", R"({"Wid)",
                     R"(th":1,"Height":2}{"Width":3,)", R"("Height":4})"}),
              ElementsAre("80x24", "1x2", "3x4"));
}

TEST(Sizes, WhatIsNoneIsDropped) {
  EXPECT_THAT(sizes({"garbage}", R"({"Width":-1,"Height":2})", R"({"Width":70000,"Height":2})",
                     R"({"Width":"1","Height":2})", "{}", "{" + std::string(5000, 'x'), "}",
                     R"({"Width":5,"Height":6})"}),
              ElementsAre("5x6"));
}

}  // namespace
}  // namespace fluyt::streaming
