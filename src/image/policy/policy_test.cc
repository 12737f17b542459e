#include "image/policy/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "image/policy/lookaside.h"
#include "image/policy/payload.h"

namespace fluyt::image::policy {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

oci::Reference reference(std::string_view text) { return oci::Reference::parse(text).value(); }

TEST(PolicyFile, ReadsWhatTheManualPageShows) {
  const auto policy = parse_policy(R"({
    "default": [{"type": "reject"}],
    "transports": {
      "docker": {
        "registry.example/open": [{"type": "insecureAcceptAnything"}],
        "registry.example": [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/keys/a.gpg"}],
        "": [{"type": "sigstoreSigned", "keyPaths": ["/a.pub", "/b.pub"],
              "signedIdentity": {"type": "remapIdentity", "prefix": "mirror.example/hub",
                                 "signedPrefix": "docker.io"}}]},
      "docker-daemon": {"": [{"type": "insecureAcceptAnything"}]}}})",
                                   "policy.json");
  ASSERT_TRUE(policy.ok()) << policy.error().message();
  EXPECT_EQ(policy->fallback.at(0).kind, Requirement::Kind::kReject);
  EXPECT_EQ(policy->docker.size(), 3U);
  EXPECT_EQ(policy->docker.at("").at(0).key_files.size(), 2U);
  EXPECT_EQ(policy->docker.at("").at(0).identity.signed_prefix, "docker.io");
  EXPECT_EQ(policy->docker.at("registry.example").at(0).identity.kind,
            SignedIdentity::Kind::kMatchRepoDigestOrExact);
}

TEST(PolicyFile, WhatIsNotKnownIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({})", "default: expected requirements"},
      {R"({"default":[]})", "default: expected an array"},
      {R"({"default":[{"type":"reject"}],"defualt":1})", "\"defualt\": unknown here"},
      {R"({"default":[{"type":"reject","x":1}]})", "default[0]: \"x\": unknown here"},
      {R"({"default":[{"type":"accept"}]})", "default[0].type: \"accept\": expected insecure"},
      {R"({"default":[{"type":"reject"},{"type":"sigstoreSigned"}]})",
       "default[1]: expected exactly one of keyPath"},
      {R"({"default":[{"type":"sigstoreSigned","keyPath":"/a","keyData":"YQ=="}]})",
       "expected exactly one of keyPath"},
      {R"({"default":[{"type":"sigstoreSigned","keyPath":"a"}]})",
       "default[0].keyPath: expected an absolute path"},
      {R"({"default":[{"type":"sigstoreSigned","keyData":"?"}]})", "keyData: expected base64"},
      {R"({"default":[{"type":"sigstoreSigned","fulcio":{}}]})", "default[0].fulcio: is not done"},
      {R"({"default":[{"type":"sigstoreSigned","keyPath":"/a","rekorPublicKeyPath":"/b"}]})",
       "rekorPublicKeyPath: is not done"},
      {R"({"default":[{"type":"signedBy","keyType":"X509","keyPath":"/a"}]})",
       "keyType: \"X509\": expected GPGKeys"},
      {R"({"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a",
           "signedIdentity":{"type":"matchAny"}}]})",
       "signedIdentity.type: \"matchAny\": expected matchExact"},
      {R"({"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/a",
           "signedIdentity":{"type":"exactReference"}}]})",
       "dockerReference: expected a string"},
      {R"({"default":[{"type":"reject"}],"default":[{"type":"insecureAcceptAnything"}]})",
       "default: expected a key once"},
      {R"({"default":[{"type":"reject"}],"transports":{"docker":{"a/*":[{"type":"reject"}]}}})",
       "transports.docker[\"a/*\"]: expected host"},
      {R"({"default":[{"type":"reject"}],"transports":{"oci":{"":[{"type":"what"}]}}})",
       "transports.oci[\"\"][0].type"},
      {"[", "expected a JSON object"}};
  for (const auto& [text, words] : cases) {
    const auto policy = parse_policy(text, "/etc/p.json");
    ASSERT_FALSE(policy.ok()) << text;
    EXPECT_EQ(policy.error().code(), Code::kInvalidArgument);
    EXPECT_THAT(policy.error().message(), AllOf(HasSubstr("/etc/p.json"), HasSubstr(words)));
  }
}

TEST(PolicyScope, TheMostSpecificOneHolds) {
  Policy policy;
  for (const char* scope :
       {"registry.example/team/app:v1", "registry.example/team/app", "registry.example/team",
        "registry.example", "*.example", "*.b.example", "port.example:5000"}) {
    policy.docker[scope] = {};
  }
  const auto place = [&](const char* name) { return scope_for(policy, reference(name)).place; };
  const auto docker = [](const char* scope) { return cat("transports.docker[\"", scope, "\"]"); };
  EXPECT_EQ(place("registry.example/team/app:v1"), docker("registry.example/team/app:v1"));
  EXPECT_EQ(place("registry.example/team/app:v2"), docker("registry.example/team/app"));
  EXPECT_EQ(place("registry.example/team/app/x"), docker("registry.example/team/app"));
  EXPECT_EQ(place("registry.example/team-two/x"), docker("registry.example"));
  EXPECT_EQ(place("a.example/x"), docker("*.example"));
  EXPECT_EQ(place("a.b.example:443/x"), docker("*.b.example"));
  EXPECT_EQ(place("port.example:5000/x"), docker("port.example:5000"));
  EXPECT_EQ(place("port.example/x"), docker("*.example"));
  EXPECT_EQ(place("busybox"), "default");
  policy.docker[""] = {};
  EXPECT_EQ(place("busybox"), docker(""));
}

constexpr const char* kDigest =
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

TEST(SignedIdentity, RulesAreThoseOfTheManualPage) {
  using Kind = SignedIdentity::Kind;
  const std::string by_digest = cat("r.test/a/b@", kDigest);
  struct Case {
    SignedIdentity rule;
    std::string asked;
    std::string found;
    bool good;
  };
  const SignedIdentity exact{.kind = Kind::kMatchExact};
  const SignedIdentity usual{.kind = Kind::kMatchRepoDigestOrExact};
  const SignedIdentity repository{.kind = Kind::kMatchRepository};
  const SignedIdentity name{.kind = Kind::kExactReference, .name = "r.test/x:1"};
  const SignedIdentity one{.kind = Kind::kExactRepository, .name = "r.test/x"};
  const SignedIdentity remap{
      .kind = Kind::kRemapIdentity, .prefix = "m.test/hub", .signed_prefix = "r.test"};
  const Case cases[] = {
      {exact, "r.test/a/b:1", "r.test/a/b:1", true},
      {exact, "r.test/a/b:1", "r.test/a/b:2", false},
      {exact, "r.test/a/b:latest", "r.test/a/b", false},  // no tag is put in
      {exact, by_digest, by_digest, true},
      {usual, "r.test/a/b:1", "r.test/a/b:1", true},
      {usual, "r.test/a/b:1", "r.test/a/b", false},
      {usual, by_digest, "r.test/a/b:7", true},
      {usual, by_digest, "r.test/a/c:7", false},
      {repository, "r.test/a/b:1", "r.test/a/b", true},
      {repository, "r.test/a/b:1", "r.test/a/b:9", true},
      {repository, "r.test/a/b:1", "r.test/a/bc", false},
      {name, "r.test/a/b:1", "r.test/x:1", true},
      {name, "r.test/a/b:1", "r.test/x:2", false},
      {one, "r.test/a/b:1", "r.test/x:2", true},
      {one, "r.test/a/b:1", "r.test/a/b:1", false},
      {remap, "m.test/hub/a/b:1", "r.test/a/b:1", true},
      {remap, "m.test/hub/a/b:1", "m.test/hub/a/b:1", false},
      {remap, "m.test/hub-two/b:1", "r.test-two/b:1", false},
      {remap, "other.test/b:1", "other.test/b:1", true},
      {usual, "busybox", "docker.io/library/busybox:latest", true},
      {usual, "r.test:5000/a", "r.test:5000/a:latest", true},
      {repository, "r.test/a/b:1", "not a name", false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(identity_matches(c.rule, reference(c.asked), c.found), c.good)
        << c.asked << " and " << c.found;
  }
}

std::string payload(std::string_view critical) {
  return cat("{\"critical\":", critical, ",\"optional\":{\"creator\":\"x\"}}");
}

TEST(Payload, IsStrictAboutWhatIsCritical) {
  const std::string image = cat(R"("image":{"docker-manifest-digest":")", kDigest, "\"}");
  const std::string identity = R"("identity":{"docker-reference":"r.test/a:1"})";
  const std::string type = R"("type":"atomic container signature")";
  const auto good =
      parse_payload(payload(cat("{", type, ",", image, ",", identity, "}")), PayloadType::kAtomic);
  ASSERT_TRUE(good.ok()) << good.error().message();
  EXPECT_EQ(good->name, "r.test/a:1");
  EXPECT_EQ(good->digest.text(), kDigest);
  const std::string bad[] = {
      payload(cat("{", type, ",", image, "}")),
      payload(cat("{", type, ",", image, ",", identity, ",\"until\":1}")),
      payload(cat("{", type, ",", image, ",", identity, ",", identity, "}")),
      payload(cat("{", R"("type":"other",)", image, ",", identity, "}")),
      payload(cat("{", type, R"(,"image":{"docker-manifest-digest":"md5:x"},)", identity, "}")),
      payload(cat("{", type, R"(,"image":{"docker-manifest-digest":7},)", identity, "}")),
      cat("{\"critical\":{", type, ",", image, ",", identity, "},\"more\":1}"),
      "{}",
      "[]",
      ""};
  for (const std::string& text : bad) {
    EXPECT_FALSE(parse_payload(text, PayloadType::kAtomic).ok()) << text;
  }
  EXPECT_FALSE(
      parse_payload(payload(cat("{", type, ",", image, ",", identity, "}")), PayloadType::kCosign)
          .ok());
}

TEST(LookasideFile, ReadsWhatRegistriesDHolds) {
  Lookaside lookaside;
  const auto read = read_lookaside(
      "# where signatures are\n"
      "default-docker:\n"
      "  lookaside: https://sigs.example/all  # for all\n"
      "  lookaside-staging: file:///var/lib/containers/sigstore\n"
      "docker:\n"
      "    registry.example:5000:\n"
      "        sigstore: \"file:///old\"\n"
      "        lookaside: 'file:///new/'\n"
      "    registry.example:5000/team:\n"
      "        use-sigstore-attachments: true\n"
      "        lookaside: http://team.example\n",
      "x.yaml", lookaside);
  ASSERT_TRUE(read.ok()) << read.error().message();
  const auto digest = oci::Digest::parse(kDigest).value();
  const std::string tail = cat("@sha256=", digest.hex());
  EXPECT_EQ(signatures_url(lookaside, reference("registry.example:5000/a/b:1"), digest),
            cat("file:///new/a/b", tail));
  EXPECT_EQ(signatures_url(lookaside, reference("registry.example:5000/team/b"), digest),
            cat("http://team.example/team/b", tail));
  EXPECT_EQ(signatures_url(lookaside, reference("busybox"), digest),
            cat("https://sigs.example/all/library/busybox", tail));
  EXPECT_EQ(signatures_url(Lookaside{}, reference("busybox"), digest), "");
}

TEST(LookasideFile, RefusesTheRestOfYamlByLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"docker: [a]\n", "x.yaml:1: "},
      {"docker:\n  a:\n    lookaside: &x http://a\n", "x.yaml:3: expected a plain text"},
      {"docker:\n  a:\n    lookaside: ftp://a\n", "x.yaml:3: lookaside: \"ftp://a\""},
      {"docker:\n  a:\n    colour: red\n", "\"colour\": expected lookaside"},
      {"other:\n", "\"other\": expected default-docker: or docker:"},
      {"docker:\n\ta:\n", "x.yaml:2: tabs"},
      {"docker:\n  lookaside: http://a\n", "expected a scope"},
      {"docker:\n  a: |\n", "x.yaml:2: "},
      {"- a\n", "x.yaml:1: "}};
  for (const auto& [text, words] : cases) {
    Lookaside lookaside;
    const auto read = read_lookaside(text, "x.yaml", lookaside);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_THAT(read.error().message(), HasSubstr(words)) << text;
  }
}

}  // namespace
}  // namespace fluyt::image::policy
