#include "oci/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::oci {
namespace {

using testing::HasSubstr;

const std::string kDigest = "sha256:" + std::string(64, 'e');

struct Normalised {
  std::string text;
  std::string whole;
  std::string familiar;
};

TEST(Reference, NormalisesAsDockerDoes) {
  const Normalised cases[] = {
      {"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"},
      {"bitnami/redis", "docker.io/bitnami/redis:latest", "bitnami/redis:latest"},
      {"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"},
      {"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
      {"docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"},
      {"docker.io/a.b", "docker.io/library/a.b:latest", "a.b:latest"},
      {"localhost/x", "localhost/x:latest", "localhost/x:latest"},
      {"localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"},
      {"127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b:latest"},
      {"[::1]:5000/a:t", "[::1]:5000/a:t", "[::1]:5000/a:t"},
      {"[2001:DB8::1]/a", "[2001:DB8::1]/a:latest", "[2001:DB8::1]/a:latest"},
      {"EXAMPLE.com/a", "EXAMPLE.com/a:latest", "EXAMPLE.com/a:latest"},
      {"registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"},
      {"q.io/a__b/c-----d.e_f", "q.io/a__b/c-----d.e_f:latest", "q.io/a__b/c-----d.e_f:latest"},
      {"a:T_x.y-z", "docker.io/library/a:T_x.y-z", "a:T_x.y-z"},
  };
  for (const Normalised& one : cases) {
    const auto reference = Reference::parse(one.text);
    ASSERT_TRUE(reference.ok()) << reference.error().message();
    EXPECT_EQ(reference->text(), one.whole);
    EXPECT_EQ(reference->familiar(), one.familiar);
  }
}

TEST(Reference, TextIsAFixedPoint) {
  for (const std::string& text : {std::string("busybox"), "a/b@" + kDigest,
                                  "localhost:5000/x:y@" + kDigest, std::string("[::1]:1/q")}) {
    const auto once = Reference::parse(text);
    ASSERT_TRUE(once.ok()) << once.error().message();
    EXPECT_EQ(*once, *Reference::parse(once->text()));
    EXPECT_EQ(*once, *Reference::parse(once->familiar()));
  }
}

TEST(Reference, ADigestStandsForTheDefaultTag) {
  const auto reference = Reference::parse("busybox@" + kDigest);
  ASSERT_TRUE(reference.ok());
  EXPECT_EQ(reference->tag, "");
  EXPECT_EQ(reference->target(), kDigest);
  EXPECT_EQ(reference->text(), "docker.io/library/busybox@" + kDigest);
  EXPECT_EQ(reference->name(), "docker.io/library/busybox");
}

TEST(Reference, KeepsTagBesideDigestButAsksForTheDigest) {
  const auto reference = Reference::parse("busybox:1@" + kDigest);
  ASSERT_TRUE(reference.ok());
  EXPECT_EQ(reference->tag, "1");
  EXPECT_EQ(reference->target(), kDigest);
  EXPECT_EQ(reference->text(), "docker.io/library/busybox:1@" + kDigest);
}

TEST(Reference, RefusesAndNamesThePart) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "image name"},
      {"Busybox", "lower case"},
      {"docker.io/Busybox", "lower case"},
      {"a//b", "repository"},
      {"/a", "repository"},
      {"a/", "repository"},
      {"-a", "repository"},
      {"a-", "repository"},
      {"a..b", "repository"},
      {"a___b", "repository"},
      {"a._b", "repository"},
      {"../../etc/passwd", "registry"},
      {"q.io/../x", "repository"},
      {"a:", "tag"},
      {"a:.x", "tag"},
      {"a:-x", "tag"},
      {"a:x y", "tag"},
      {"a:" + std::string(129, 't'), "tag"},
      {"a@sha256:12", "digest"},
      {"a@" + kDigest + "@" + kDigest, "digest"},
      {"q.io:0/a", "port"},
      {"q.io:65536/a", "port"},
      {"q.io:x/a", "port"},
      {"q.io:/a", "port"},
      {"-q.io/a", "registry"},
      {"q..io/a", "registry"},
      {"[::1/a", "registry"},
      {"[xyz]:1/a", "registry"},
      {"[]:1/a", "registry"},
      {"http://q.io/a", "port"},
      {"q.io/a?b", "repository"},
      {"q.io/a\nb", "repository"},
      {std::string("q.io/a\0b", 8), "repository"},
      {std::string(64, 'a'), "image's id"},
      {"q.io/" + std::string(251, 'a'), "255"},
  };
  for (const auto& [text, part] : cases) {
    const auto reference = Reference::parse(text);
    ASSERT_FALSE(reference.ok()) << text;
    EXPECT_EQ(reference.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(reference.error().message(), HasSubstr(part)) << text;
  }
}

TEST(Reference, TakesTheLongestNames) {
  EXPECT_TRUE(Reference::parse("q.io/" + std::string(250, 'a')).ok());
  EXPECT_TRUE(Reference::parse("a:" + std::string(128, 't')).ok());
}

}  // namespace
}  // namespace fluyt::oci
