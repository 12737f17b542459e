#include "image/registry/www_authenticate.h"

#include <gtest/gtest.h>

namespace fluyt::image::registry {
namespace {

TEST(WwwAuthenticate, CommasInQuotedScopesAreText) {
  auto got = parse_www_authenticate(
      R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push")");
  ASSERT_TRUE(got.ok()) << got.error().message();
  ASSERT_EQ(got->size(), 1U);
  EXPECT_EQ((*got)[0].scheme, "bearer");
  EXPECT_EQ((*got)[0].param("scope"), "repository:a/b:pull,push");
  EXPECT_EQ((*got)[0].param("service"), "registry.docker.io");
  EXPECT_EQ((*got)[0].param("error"), "");
}

TEST(WwwAuthenticate, SeveralChallengesInOneHeader) {
  auto got = parse_www_authenticate(
      R"(, Negotiate , NTLM abc/+==, Basic realm = "a \"b\", c" , charset=UTF-8,,Bearer realm=x)");
  ASSERT_TRUE(got.ok()) << got.error().message();
  ASSERT_EQ(got->size(), 4U);
  EXPECT_EQ((*got)[0].scheme, "negotiate");
  EXPECT_EQ((*got)[1].token68, "abc/+==");
  EXPECT_EQ((*got)[2].param("realm"), "a \"b\", c");
  EXPECT_EQ((*got)[2].param("charset"), "UTF-8");
  EXPECT_EQ((*got)[3].param("realm"), "x");
}

TEST(WwwAuthenticate, BrokenHeadersAreRefusedWithThePlace) {
  for (const char* bad : {"Bearer realm=\"x", "Bearer a=b,c=", "=", "Bearer a=b c=d",
                          "Bearer a=b,a=c", "Bearer \"x\"", "Basic realm=\"x\\"}) {
    auto got = parse_www_authenticate(bad);
    ASSERT_FALSE(got.ok()) << bad;
    EXPECT_NE(got.error().message().find("at byte"), std::string::npos) << got.error().message();
  }
  EXPECT_FALSE(parse_www_authenticate(std::string(kMaxChallengeBytes + 1, 'a')).ok());
}

TEST(WwwAuthenticate, NothingIsNoChallenge) { EXPECT_TRUE(parse_www_authenticate("")->empty()); }

}  // namespace
}  // namespace fluyt::image::registry
