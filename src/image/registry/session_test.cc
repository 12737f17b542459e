#include "image/registry/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"
#include "image/testing/fake_registry.h"
#include "sys/file.h"

namespace fluyt::image::registry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Fake = image::testing::FakeRegistry;
using Reply = Fake::Reply;

constexpr const char* kType = "application/vnd.oci.image.manifest.v1+json";

std::string sha256(std::string_view bytes) { return digest_of("sha256", bytes)->text(); }

RegistryOptions quick_options() {
  RegistryOptions out;
  out.timeouts = {.connect_ms = 1000, .first_byte_ms = 300, .stall_ms = 300};
  out.retry.first_delay_ms = 10;
  out.retry.delay_cap_ms = 50;
  out.retry.max_tries = 3;
  return out;
}

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override { fake_ = Fake::start().value(); }
  void TearDown() override { fake_.reset(); }  // before what its hooks look at

  std::unique_ptr<Session> open(Credentials credentials = {},
                                RegistryOptions options = quick_options()) {
    registry_ = std::make_unique<Registry>(std::move(options), logger_);
    auto session = registry_->open(name_.empty() ? fake_->host() : name_, "a/b",
                                   std::move(credentials), &cancelled_);
    EXPECT_TRUE(session.ok()) << session.error().message();
    return std::move(*session);
  }

  // Serves a blob of `size` bytes and returns its digest.
  oci::Digest add_blob(size_t size) {
    blob_.clear();
    while (blob_.size() < size) blob_ += cat(blob_.size(), ",");
    blob_.resize(size);
    const std::string digest = sha256(blob_);
    blob_path_ = cat("/v2/a/b/blobs/", digest);
    fake_->serve(blob_path_, "application/octet-stream", blob_);
    return oci::Digest::parse(digest).value();
  }

  Result<> fetch(Session& session, const oci::Digest& digest) {
    got_.clear();
    FLUYT_TRY(session.fetch_blob(digest, blob_.size(), [this](std::string_view bytes) -> Result<> {
      got_ += bytes;
      return {};
    }));
    return {};
  }

  void fail_blob(Reply::Fault fault, size_t cut, int times) {
    fake_->set_hook([=, this](const Fake::Request& request) -> std::optional<Reply> {
      if (request.target != blob_path_ || request.nth > times) return std::nullopt;
      Reply reply;
      reply.body = blob_;
      reply.fault = fault;
      reply.cut = cut;
      return reply;
    });
  }

  NullLogger logger_;
  std::unique_ptr<Fake> fake_;
  std::unique_ptr<Registry> registry_;
  std::atomic<bool> cancelled_{false};
  std::string name_;
  std::string blob_;
  std::string blob_path_;
  std::string got_;
};

TEST_F(SessionTest, ResolvesAndGetsAManifest) {
  fake_->serve("/v2/a/b/manifests/v1", cat(kType, "; charset=utf-8"), "{}");
  auto session = open();
  auto head = session->head_manifest("v1");
  ASSERT_TRUE(head.ok()) << head.error().message();
  EXPECT_EQ(head->digest->text(), sha256("{}"));
  EXPECT_EQ(head->media_type, kType);
  auto manifest = session->get_manifest("v1");
  ASSERT_TRUE(manifest.ok()) << manifest.error().message();
  EXPECT_EQ(manifest->bytes, "{}");
  EXPECT_EQ(manifest->media_type, kType);
}

TEST_F(SessionTest, AnUnknownTagIsNotFoundWithTheRegistrysWords) {
  auto got = open()->get_manifest("nope");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kNotFound);
  EXPECT_THAT(got.error().message(),
              AllOf(HasSubstr(fake_->host()), HasSubstr("GET /v2/a/b/manifests/nope = 404"),
                    HasSubstr("MANIFEST_UNKNOWN: manifest unknown")));
}

TEST_F(SessionTest, ARefusingRegistryIsOneClearErrorAndSoon) {
  const std::string host = fake_->host();
  name_ = host;
  auto session = open();
  fake_.reset();
  const int64_t before = now_boot_ns();
  auto got = session->head_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kUnavailable);
  EXPECT_THAT(got.error().message(), AllOf(HasSubstr(host), HasSubstr("refused")));
  EXPECT_LT(now_boot_ns() - before, 2'000'000'000);
}

TEST_F(SessionTest, WrongBytesForADigestAreRefused) {
  const std::string digest = sha256("{}");
  fake_->serve(cat("/v2/a/b/manifests/", digest), kType, "{ }");
  fake_->set_hook([](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.headers = {{"Content-Type", kType}}, .body = "{ }"};
  });
  auto got = open()->get_manifest(digest);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kDataLoss);
  EXPECT_THAT(got.error().message(), AllOf(HasSubstr(digest), HasSubstr(sha256("{ }"))));
}

TEST_F(SessionTest, AManifestOverTheLimitIsCutOff) {
  fake_->serve("/v2/a/b/manifests/big", kType, std::string(oci::kMaxManifestBytes + 1, ' '));
  auto got = open()->get_manifest("big");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kResourceExhausted);
}

TEST_F(SessionTest, StreamsABlob) {
  const auto digest = add_blob(3'000'000);
  auto session = open();
  ASSERT_TRUE(fetch(*session, digest).ok());
  EXPECT_EQ(got_, blob_);
}

TEST_F(SessionTest, ATruncatedBlobIsResumedByRange) {
  const auto digest = add_blob(300'000);
  fail_blob(Reply::Fault::kClose, 100'000, 1);
  auto session = open();
  auto fetched = fetch(*session, digest);
  ASSERT_TRUE(fetched.ok()) << fetched.error().message();
  EXPECT_EQ(got_, blob_);
  EXPECT_EQ(fake_->count("GET " + blob_path_), 2U);
}

TEST_F(SessionTest, AResetInTheMiddleIsResumed) {
  const auto digest = add_blob(300'000);
  fail_blob(Reply::Fault::kReset, 100'000, 2);
  auto session = open();
  auto fetched = fetch(*session, digest);
  ASSERT_TRUE(fetched.ok()) << fetched.error().message();
  EXPECT_EQ(got_, blob_);
}

TEST_F(SessionTest, AServerWithoutRangesIsReadAgainFromTheStart) {
  const auto digest = add_blob(300'000);
  fake_->set_hook([this](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target != blob_path_) return std::nullopt;
    Reply reply;
    reply.body = blob_;
    if (request.nth == 1) {
      reply.fault = Reply::Fault::kClose;
      reply.cut = 123'456;
    }
    return reply;
  });
  auto session = open();
  ASSERT_TRUE(fetch(*session, digest).ok());
  EXPECT_EQ(got_, blob_);
}

TEST_F(SessionTest, AlwaysTruncatedGivesUpWithTheBytesNamed) {
  const auto digest = add_blob(300'000);
  fake_->set_hook([this](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target != blob_path_) return std::nullopt;
    Reply reply;
    reply.body = blob_.substr(0, 1000);
    reply.announce_length = false;
    return reply;
  });
  auto session = open();
  auto fetched = fetch(*session, digest);
  ASSERT_FALSE(fetched.ok());
  EXPECT_EQ(fetched.error().code(), Code::kUnavailable);
  EXPECT_THAT(fetched.error().message(), HasSubstr("ended after 1000 bytes"));
  EXPECT_EQ(fake_->count("GET " + blob_path_), 3U);
}

TEST_F(SessionTest, HangsEndAtTheirClocks) {
  const auto digest = add_blob(300'000);
  for (const auto& [fault, words] :
       {std::pair(Reply::Fault::kHangBeforeHead, "no answer within 300 ms"),
        std::pair(Reply::Fault::kHangInBody, "stalled")}) {
    fail_blob(fault, 10, 1000);
    RegistryOptions options = quick_options();
    // A busy machine may take long to send the head of what is to stall behind it.
    if (fault == Reply::Fault::kHangInBody) options.timeouts.first_byte_ms = 4000;
    auto session = open({}, options);
    const int64_t before = now_boot_ns();
    auto fetched = fetch(*session, digest);
    ASSERT_FALSE(fetched.ok());
    EXPECT_EQ(fetched.error().code(), Code::kDeadlineExceeded);
    EXPECT_THAT(fetched.error().message(), HasSubstr(words));
    EXPECT_LT(now_boot_ns() - before, 5'000'000'000);
  }
}

TEST_F(SessionTest, CancellingEndsAHangAtOnce) {
  const auto digest = add_blob(300'000);
  fail_blob(Reply::Fault::kHangInBody, 10, 1000);
  RegistryOptions options = quick_options();
  options.timeouts = {};
  auto session = open({}, options);
  std::thread canceller([this] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    cancelled_ = true;
  });
  const int64_t before = now_boot_ns();
  auto fetched = fetch(*session, digest);
  canceller.join();
  ASSERT_FALSE(fetched.ok());
  EXPECT_EQ(fetched.error().code(), Code::kCancelled);
  EXPECT_LT(now_boot_ns() - before, 1'000'000'000);
}

TEST_F(SessionTest, ABlobOfAnotherSizeIsRefused) {
  const auto digest = add_blob(1000);
  auto session = open();
  blob_.resize(900);
  auto fetched = fetch(*session, digest);
  ASSERT_FALSE(fetched.ok());
  EXPECT_EQ(fetched.error().code(), Code::kDataLoss);
  EXPECT_THAT(fetched.error().message(), HasSubstr("Content-Length 1000: expected 900"));
  EXPECT_TRUE(got_.empty());
}

TEST_F(SessionTest, TooManyRequestsIsTriedAgainWhenTheRegistrySays) {
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  fake_->set_hook([](const Fake::Request& request) -> std::optional<Reply> {
    if (request.nth > 1) return std::nullopt;
    return Reply{.status = 429, .headers = {{"Retry-After", "1"}}};
  });
  const int64_t before = now_boot_ns();
  auto got = open()->get_manifest("v1");
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_GE(now_boot_ns() - before, 1'000'000'000);
}

TEST_F(SessionTest, AWaitThatIsTooLongFailsAtOnce) {
  fake_->set_hook([](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.status = 429, .headers = {{"Retry-After", "3600"}}};
  });
  auto got = open()->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(got.error().message(), HasSubstr("Retry-After \"3600\""));
  EXPECT_EQ(fake_->count("GET"), 1U);
}

// Asks for a bearer token, gives one, wants it.
Fake::Hook token_hook(const std::string& host, std::string& seen) {
  return [host, &seen](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target.starts_with("/token?")) {
      seen = cat(request.target, " ", request.header("authorization"));
      return Reply{.body = R"({"token":"t1","expires_in":300})"};
    }
    if (request.header("authorization") == "Bearer t1") return std::nullopt;
    return Reply{.status = 401,
                 .headers = {{"WWW-Authenticate",
                              cat("Bearer realm=\"http://", host,
                                  "/token\",service=\"s\",scope=\"repository:a/b:pull,x\"")}}};
  };
}

TEST_F(SessionTest, ATokenIsFetchedOnceAndUsed) {
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  std::string seen;
  fake_->set_hook(token_hook(fake_->host(), seen));
  auto session = open({.username = "u", .password = "p"});
  ASSERT_TRUE(session->head_manifest("v1").ok());
  ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(seen, "/token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cx&account=u Basic dTpw");
  EXPECT_EQ(fake_->count("GET /token"), 1U);
  EXPECT_EQ(fake_->requests().size(), 4U);
}

TEST_F(SessionTest, CredentialsForAnotherHostAreNotShown) {
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  std::string seen;
  fake_->set_hook(token_hook(fake_->host(), seen));
  auto session =
      open({.username = "u", .password = "p", .server_address = "https://other.example/v1/"});
  ASSERT_TRUE(session->head_manifest("v1").ok());
  EXPECT_THAT(seen, Not(HasSubstr("Basic")));
}

TEST_F(SessionTest, ATokenThatIsRefusedIsRenewedOnceOnly) {
  fake_->set_hook([host = fake_->host()](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target.starts_with("/token")) {
      return Reply{.body = cat(R"({"access_token":"t)", request.nth, "\"}")};
    }
    return Reply{
        .status = 401,
        .headers = {{"WWW-Authenticate", cat("Bearer realm=\"http://", host, "/token\"")}}};
  });
  auto got = open()->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kUnauthenticated);
  EXPECT_EQ(fake_->count("GET /token"), 2U);
  EXPECT_EQ(fake_->count("GET /v2/"), 3U);
}

TEST_F(SessionTest, BasicIsSentOnlyAfterAChallenge) {
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  int without = 0;
  fake_->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    if (request.header("authorization") == "Basic dTpw") return std::nullopt;
    ++without;
    return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r, s\""}}};
  });
  auto session = open({.username = "u", .password = "p"});
  ASSERT_TRUE(session->get_manifest("v1").ok());
  ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(without, 1);
  auto anonymous = open()->get_manifest("v1");
  ASSERT_FALSE(anonymous.ok());
  EXPECT_THAT(anonymous.error().message(), HasSubstr("wants credentials and none were given"));
}

TEST_F(SessionTest, ARedirectElsewhereCarriesNoAuthorization) {
  const auto digest = add_blob(1000);
  auto other = Fake::start().value();
  std::string leaked = "nothing";
  other->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    leaked = std::string(request.header("authorization"));
    return Reply{.body = blob_};
  });
  fake_->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    if (request.header("authorization").empty()) {
      return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
    }
    return Reply{.status = 307,
                 .headers = {{"Location", cat("http://", other->host(), "/x?sig=1")}}};
  });
  auto session = open({.username = "u", .password = "p"});
  ASSERT_TRUE(fetch(*session, digest).ok());
  EXPECT_EQ(leaked, "");
  EXPECT_EQ(got_, blob_);
}

TEST_F(SessionTest, ARedirectLoopEnds) {
  fake_->set_hook([](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.status = 302, .headers = {{"Location", "/loop"}}};
  });
  auto got = open()->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_THAT(got.error().message(), HasSubstr("more than 10 redirects"));
  EXPECT_EQ(fake_->requests().size(), 11U);
}

class MirrorTest : public SessionTest {
 protected:
  void SetUp() override {
    SessionTest::SetUp();
    mirror_ = Fake::start().value();
    certs_ = std::make_unique<sys::TempDir>(sys::TempDir::create().value());
    name_ = "registry.test";
    write(
        cat("server = \"http://", fake_->host(), "\"\n[host.\"http://", mirror_->host(), "\"]\n"));
  }
  void write(const std::string& text) {
    const std::string folder = cat(certs_->path(), "/", name_);
    ASSERT_TRUE(sys::make_dirs(folder, 0700).ok());
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, cat(folder, "/hosts.toml"), text, 0600).ok());
  }
  std::unique_ptr<Session> open_with_certs() {
    RegistryOptions options = quick_options();
    options.certs_dir = certs_->path();
    options.timeouts.first_byte_ms = 10'000;  // who lets us wait on a busy machine is left out
    return open({}, options);
  }
  std::unique_ptr<Fake> mirror_;
  std::unique_ptr<sys::TempDir> certs_;
};

TEST_F(MirrorTest, IsAskedFirstAndToldTheName) {
  mirror_->serve("/v2/a/b/manifests/v1", kType, "{}");
  auto session = open_with_certs();
  ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(mirror_->requests(),
            std::vector<std::string>{"GET /v2/a/b/manifests/v1?ns=registry.test"});
  EXPECT_TRUE(fake_->requests().empty());
}

TEST_F(MirrorTest, ThatFailsAgainAndAgainIsLeftOutForTheRestOfThePull) {
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  mirror_->set_hook(
      [](const Fake::Request&) -> std::optional<Reply> { return Reply{.status = 503}; });
  auto session = open_with_certs();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(mirror_->requests().size(), 3U);
}

TEST_F(MirrorTest, ThatHasItNotIsLeftOutAtOnce) {
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  auto session = open_with_certs();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(mirror_->requests().size(), 1U);
}

TEST_F(MirrorTest, ThatStumblesNowAndThenIsNotLeftOut) {
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  mirror_->serve("/v2/a/b/manifests/v1", kType, "{}");
  mirror_->set_hook([](const Fake::Request& request) -> std::optional<Reply> {
    if (request.nth % 2 == 0) return std::nullopt;
    return Reply{.status = 503};
  });
  auto session = open_with_certs();
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(mirror_->requests().size(), 10U);
  EXPECT_EQ(fake_->requests().size(), 5U);
}

// As where nodes reach their mirror and nothing else.
TEST_F(MirrorTest, ThatBreaksOnceIsAskedAgainWhereTheRegistryIsOutOfReach) {
  const auto digest = add_blob(300'000);
  mirror_->serve("/v2/a/b/manifests/v1", kType, "{}");
  mirror_->serve(blob_path_, "application/octet-stream", blob_);
  fake_.reset();
  for (const Reply& fault :
       {Reply{.body = blob_, .fault = Reply::Fault::kReset, .cut = 100'000}, Reply{.status = 503},
        Reply{.status = 429, .headers = {{"Retry-After", "1"}}}}) {
    const auto broken = std::make_shared<std::atomic<int>>(0);
    mirror_->set_hook([=](const Fake::Request& request) -> std::optional<Reply> {
      if (request.method != "GET" || (*broken)++ > 0) return std::nullopt;
      return fault;
    });
    auto session = open_with_certs();
    ASSERT_TRUE(session->head_manifest("v1").ok());
    const int64_t before = now_boot_ns();
    const auto fetched = fetch(*session, digest);
    ASSERT_TRUE(fetched.ok()) << fetched.error().message();
    EXPECT_EQ(got_, blob_);
    if (fault.status == 429) {
      EXPECT_GE(now_boot_ns() - before, 1'000'000'000);
    }
    // It is the first to be asked again from then on.
    const size_t asked = mirror_->requests().size();
    ASSERT_TRUE(session->get_manifest("v1").ok());
    EXPECT_EQ(mirror_->requests().size(), asked + 1);
  }
}

TEST_F(MirrorTest, WhatNeedNotBeThereIsHeldAgainstNobody) {
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  mirror_->serve("/v2/a/b/manifests/v1", kType, "{}");
  auto session = open_with_certs();
  const auto found = session->find_manifest("sha256-00.sig");
  ASSERT_TRUE(found.ok()) << found.error().message();
  EXPECT_FALSE(found->has_value());
  EXPECT_EQ(mirror_->count("GET"), 1U);
  EXPECT_EQ(fake_->count("GET"), 1U) << "the registry may have what the mirror has not";
  ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(mirror_->count("GET"), 2U);
  EXPECT_EQ(fake_->count("GET"), 1U);
}

TEST_F(MirrorTest, WhatTheMirrorHasNotMayBeAtARegistryOutOfReach) {
  mirror_->serve("/v2/a/b/manifests/v1", kType, "{}");
  fake_.reset();
  auto session = open_with_certs();
  const auto found = session->find_manifest("sha256-00.sig");
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code(), Code::kUnavailable);
  EXPECT_FALSE(session->is_given_up());
  EXPECT_TRUE(session->get_manifest("v1").ok());
  // Nor is it known to be absent when the registry has been left out.
  const auto again = session->find_manifest("sha256-01.sig");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), Code::kUnavailable);
  EXPECT_THAT(again.error().message(), HasSubstr("has failed before and was not asked"));
}

// A mirror that has nothing is asked once more then, but what is told is the registry's trouble.
TEST_F(MirrorTest, TheErrorIsTheRegistrysWhateverTheMirrorSaysThen) {
  mirror_->set_hook(
      [](const Fake::Request&) -> std::optional<Reply> { return Reply{.status = 404}; });
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  auto session = open_with_certs();
  ASSERT_TRUE(session->get_manifest("v1").ok());
  fake_->set_hook(
      [](const Fake::Request&) -> std::optional<Reply> { return Reply{.status = 503}; });
  const auto got = session->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kUnavailable) << got.error().message();
  EXPECT_THAT(got.error().message(),
              HasSubstr(cat(fake_->host(), ": GET /v2/a/b/manifests/v1 = 503")));
}

// Under the registry's own name: a server of another one may be a second mirror.
class RegistrysNoTest : public MirrorTest {
 protected:
  void SetUp() override {
    MirrorTest::SetUp();
    name_ = fake_->host();
    write(cat("server = \"http://", name_, "\"\n[host.\"http://", mirror_->host(), "\"]\n"));
  }
};

TEST_F(RegistrysNoTest, EndsTheQuestionWhateverAMirrorDid) {
  mirror_->serve("/v2/a/b/manifests/v1", kType, "{}");
  for (const int stumble : {429, 503}) {
    mirror_->set_hook([=](const Fake::Request& request) -> std::optional<Reply> {
      if (request.method == "HEAD") return std::nullopt;
      return Reply{.status = stumble};
    });
    for (const auto& [status, code] : {std::pair{404, Code::kNotFound},
                                       {401, Code::kUnauthenticated},
                                       {403, Code::kPermissionDenied}}) {
      fake_->set_hook(
          [=](const Fake::Request&) -> std::optional<Reply> { return Reply{.status = status}; });
      auto session = open_with_certs();
      ASSERT_TRUE(session->head_manifest("v1").ok());
      const size_t asked = mirror_->count("GET");
      const auto got = session->get_manifest("no-such");
      ASSERT_FALSE(got.ok());
      EXPECT_EQ(got.error().code(), code) << got.error().message();
      EXPECT_EQ(mirror_->count("GET"), asked + 1) << status;
    }
  }
}

TEST_F(RegistrysNoTest, IsEnoughWhereAMirrorHangs) {
  RegistryOptions options = quick_options();
  options.certs_dir = certs_->path();
  options.timeouts.first_byte_ms = 1000;
  mirror_->serve("/v2/a/b/manifests/v1", kType, "{}");
  mirror_->set_hook([](const Fake::Request& request) -> std::optional<Reply> {
    if (request.method == "HEAD") return std::nullopt;
    return Reply{.fault = Reply::Fault::kHangBeforeHead};
  });
  auto session = open({}, options);
  ASSERT_TRUE(session->head_manifest("v1").ok());
  for (const char* tag : {"sha256-00.sig", "sha256-01.sig"}) {
    const auto found = session->find_manifest(tag);
    ASSERT_TRUE(found.ok()) << found.error().message();
    EXPECT_FALSE(found->has_value());
  }
  EXPECT_EQ(mirror_->count("GET"), 1U);
}

TEST_F(MirrorTest, WrongBytesOfAMirrorAreReplacedByTheRegistrys) {
  const std::string digest = sha256("{}");
  fake_->serve("/v2/a/b/manifests/" + digest, kType, "{}");
  mirror_->set_hook(
      [](const Fake::Request&) -> std::optional<Reply> { return Reply{.body = "{ }"}; });
  auto got = open_with_certs()->get_manifest(digest);
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_EQ(got->bytes, "{}");
}

TEST_F(MirrorTest, ABlobGoesOnFromTheRegistryWhereTheMirrorBroke) {
  const auto digest = add_blob(300'000);
  mirror_->set_hook([this](const Fake::Request&) -> std::optional<Reply> {
    return Reply{.body = blob_, .fault = Reply::Fault::kClose, .cut = 100'000};
  });
  auto session = open_with_certs();
  auto fetched = fetch(*session, digest);
  ASSERT_TRUE(fetched.ok()) << fetched.error().message();
  EXPECT_EQ(got_, blob_);
  EXPECT_EQ(mirror_->requests().size(), 1U);
}

TEST_F(MirrorTest, WithoutResolveIsNotAskedForTags) {
  write(cat("server = \"http://", fake_->host(), "\"\n[host.\"http://", mirror_->host(),
            "\"]\ncapabilities = [\"pull\"]\n"));
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  ASSERT_TRUE(open_with_certs()->get_manifest("v1").ok());
  EXPECT_TRUE(mirror_->requests().empty());
}

TEST_F(MirrorTest, BothFailingShowsBoth) {
  mirror_->set_hook(
      [](const Fake::Request&) -> std::optional<Reply> { return Reply{.status = 404}; });
  auto got = open_with_certs()->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kNotFound);
  EXPECT_THAT(got.error().message(), AllOf(HasSubstr(fake_->host()), HasSubstr(mirror_->host())));
}

TEST_F(MirrorTest, TheFileIsReadAgainWhenItChanges) {
  RegistryOptions options = quick_options();
  options.certs_dir = certs_->path();
  Registry registry(options, logger_);
  mirror_->serve("/v2/a/b/manifests/v1", kType, "{}");
  fake_->serve("/v2/a/b/manifests/v1", kType, "{}");
  ASSERT_TRUE(registry.open(name_, "a/b", {}, nullptr).value()->get_manifest("v1").ok());
  write(cat("server = \"http://", fake_->host(), "\"\n"));
  ASSERT_TRUE(registry.open(name_, "a/b", {}, nullptr).value()->get_manifest("v1").ok());
  EXPECT_EQ(mirror_->requests().size(), 1U);
  EXPECT_EQ(fake_->requests().size(), 1U);
  write("sever = 1\n");
  auto broken = registry.open(name_, "a/b", {}, nullptr);
  ASSERT_FALSE(broken.ok());
  EXPECT_THAT(broken.error().message(), AllOf(HasSubstr("hosts.toml"), HasSubstr("sever")));
}

TEST(Errors, OfRegistriesAreQuoted) {
  EXPECT_EQ(registry_errors("{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\\u001b[2J\"}]}"),
            "\"DENIED: no\\x1b[2J\"");
  EXPECT_EQ(registry_errors("<html>"), "");
}

TEST(RetryAfter, AWaitIsNoShorterThanItSays) {
  const int64_t before = now_boot_ns();
  EXPECT_TRUE(sleep_unless_cancelled(1, nullptr));
  EXPECT_GE(now_boot_ns() - before, 1'000'000);
}

TEST(RetryAfter, SecondsAndDates) {
  EXPECT_EQ(parse_retry_after_ms(" 7 ", 0), 7000);
  EXPECT_EQ(parse_retry_after_ms("Thu, 01 Jan 1970 00:01:00 GMT", 10'000'000'000), 50'000);
  EXPECT_EQ(parse_retry_after_ms("Thu, 01 Jan 1970 00:00:01 GMT", 10'000'000'000), 0);
  EXPECT_EQ(parse_retry_after_ms("soon", 0), std::nullopt);
  EXPECT_EQ(parse_retry_after_ms("-1", 0), std::nullopt);
}

}  // namespace
}  // namespace fluyt::image::registry
