#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/registry/session.h"
#include "image/testing/fake_registry.h"

namespace fluyt::image::registry {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Fake = image::testing::FakeRegistry;
using Reply = Fake::Reply;

class PushTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fake_ = Fake::start().value();
    options_.timeouts = {.connect_ms = 1000, .first_byte_ms = 2000, .stall_ms = 2000};
    options_.retry.first_delay_ms = 10;
    options_.retry.delay_cap_ms = 50;
    options_.retry.max_tries = 3;
    options_.push_chunk_bytes = 10'000;
    while (bytes_.size() < 45'000) bytes_ += cat(bytes_.size(), ",");
    bytes_.resize(45'000);
  }

  std::unique_ptr<Session> open(Credentials credentials = {}) {
    registry_ = std::make_unique<Registry>(options_, logger_);
    auto session =
        registry_->open(fake_->host(), "a/b", std::move(credentials), &cancelled_, Purpose::kPush);
    EXPECT_TRUE(session.ok()) << session.error().message();
    return std::move(*session);
  }

  BlobToPush blob(std::string mount_from = "") {
    return {digest(), bytes_.size(),
            [this](uint64_t offset, std::span<char> into) -> Result<size_t> {
              const size_t n = std::min<size_t>({into.size(), bytes_.size() - offset, 4096});
              memcpy(into.data(), bytes_.data() + offset, n);
              return n;
            },
            std::move(mount_from)};
  }
  oci::Digest digest() const { return digest_of("sha256", bytes_).value(); }
  std::string blob_path() const { return cat("/v2/a/b/blobs/", digest().text()); }
  size_t count(const std::string& method) const { return fake_->count(method + " "); }

  NullLogger logger_;
  RegistryOptions options_;
  std::unique_ptr<Fake> fake_;
  std::unique_ptr<Registry> registry_;
  std::atomic<bool> cancelled_{false};
  std::string bytes_;
};

TEST_F(PushTest, ABlobThatIsThereIsNotSent) {
  fake_->accept_uploads({});
  fake_->serve(blob_path(), "application/octet-stream", bytes_);
  auto pushed = open()->push_blob(blob());
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(*pushed, PushedBlob::kExisted);
  EXPECT_EQ(fake_->requests(), std::vector<std::string>{"HEAD " + blob_path()});
}

TEST_F(PushTest, ASmallBlobGoesInOneRequest) {
  bytes_.resize(5000);
  fake_->accept_uploads({});
  auto pushed = open()->push_blob(blob());
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(*pushed, PushedBlob::kUploaded);
  EXPECT_EQ(fake_->content(blob_path()), bytes_);
  EXPECT_EQ(count("PATCH"), 0U);
  EXPECT_EQ(fake_->requests().size(), 3U);
}

TEST_F(PushTest, AnEmptyBlobIsOneToo) {
  bytes_.clear();
  fake_->accept_uploads({});
  auto pushed = open()->push_blob(blob());
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(fake_->content(blob_path()), "");
}

TEST_F(PushTest, ALargeBlobGoesInChunksAndProgressIsTold) {
  for (const bool absolute : {false, true}) {
    fake_ = Fake::start().value();
    fake_->accept_uploads({.absolute_locations = absolute});
    std::vector<uint64_t> told;
    auto pushed = open()->push_blob(blob(), [&](uint64_t at) { told.push_back(at); });
    ASSERT_TRUE(pushed.ok()) << pushed.error().message();
    EXPECT_EQ(fake_->content(blob_path()), bytes_);
    EXPECT_EQ(count("PATCH"), 5U);
    EXPECT_EQ(told, (std::vector<uint64_t>{10'000, 20'000, 30'000, 40'000, bytes_.size(),
                                           bytes_.size()}));
    EXPECT_EQ(fake_->uploads_under_way(), 0U);
  }
}

TEST_F(PushTest, TheRegistrysLeastChunkIsKeptTo) {
  fake_->accept_uploads({.chunk_min_bytes = 30'000});
  ASSERT_TRUE(open()->push_blob(blob()).ok());
  EXPECT_EQ(count("PATCH"), 2U);
}

TEST_F(PushTest, ARegistryWithoutChunksGetsTheWhole) {
  fake_->accept_uploads({.in_chunks = false});
  auto pushed = open()->push_blob(blob());
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(fake_->content(blob_path()), bytes_);
  EXPECT_EQ(count("PATCH"), 1U);
  EXPECT_EQ(fake_->uploads_under_way(), 0U);
}

TEST_F(PushTest, ABrokenChunkGoesOnWhereTheRegistryIs) {
  fake_->accept_uploads({.break_patch_nth = 3});
  auto pushed = open()->push_blob(blob());
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(fake_->content(blob_path()), bytes_);
  EXPECT_EQ(count("POST"), 1U);   // the same upload all the way
  EXPECT_EQ(count("PATCH"), 6U);  // one refused as out of place: curl sends what was lost again
}

TEST_F(PushTest, AnOffsetThatTheRegistryRefusesIsAskedFor) {
  fake_->accept_uploads({});
  int patches = 0;
  fake_->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    if (request.method != "PATCH" || ++patches != 2) return std::nullopt;
    return Reply{.status = 416};
  });
  auto pushed = open()->push_blob(blob());
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(fake_->content(blob_path()), bytes_);
  EXPECT_EQ(count("POST"), 1U);
}

TEST_F(PushTest, AnUploadThatTheRegistryForgotStartsAgain) {
  fake_->accept_uploads({.forget_patch_nth = 3});
  auto pushed = open()->push_blob(blob());
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(fake_->content(blob_path()), bytes_);
  EXPECT_EQ(count("POST"), 2U);
}

TEST_F(PushTest, AMountSendsNothing) {
  fake_->accept_uploads({.mountable_from = "base/image"});
  fake_->serve(cat("/v2/base/image/blobs/", digest().text()), "application/octet-stream", bytes_);
  auto pushed = open()->push_blob(blob("base/image"));
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(*pushed, PushedBlob::kMounted);
  EXPECT_EQ(fake_->requests().size(), 2U);
  EXPECT_THAT(fake_->requests().back(), HasSubstr("&from=base%2Fimage"));
}

TEST_F(PushTest, AMountThatTheRegistryDeclinesBecomesAnUpload) {
  fake_->accept_uploads({});
  auto pushed = open()->push_blob(blob("base/image"));
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(*pushed, PushedBlob::kUploaded);
  EXPECT_EQ(count("POST"), 1U);  // its 202 is the upload
}

TEST_F(PushTest, AMountThatIsForbiddenBecomesAnUpload) {
  fake_->accept_uploads({});
  fake_->set_hook([](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target.find("mount=") == std::string::npos) return std::nullopt;
    return Reply{.status = 403};
  });
  auto pushed = open()->push_blob(blob("base/image"));
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(*pushed, PushedBlob::kUploaded);
}

TEST_F(PushTest, ATokenServerThatRefusesTheOtherRepositoryKeepsNothingFromBeingSent) {
  fake_->accept_uploads({});
  fake_->set_hook([this](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target.starts_with("/token")) {
      const bool both = request.target.find("base%2Fimage") != std::string::npos;
      return both ? Reply{.status = 403} : Reply{.body = R"({"token":"t"})"};
    }
    if (request.header("authorization") == "Bearer t") return std::nullopt;
    return Reply{.status = 401,
                 .headers = {{"WWW-Authenticate", cat("Bearer realm=\"http://", fake_->host(),
                                                      "/token\",service=\"s\"")}}};
  });
  const auto pushed = open({.username = "u", .password = "p"})->push_blob(blob("base/image"));
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(*pushed, PushedBlob::kUploaded);
}

TEST_F(PushTest, ScopesNameBothRepositories) {
  fake_->accept_uploads({});
  std::vector<std::string> asked;
  fake_->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    if (request.target.starts_with("/token?")) {
      asked.push_back(request.target);
      return Reply{.body = R"({"token":"t","expires_in":300})"};
    }
    if (!request.header("authorization").empty()) return std::nullopt;
    return Reply{.status = 401,
                 .headers = {{"WWW-Authenticate",
                              cat("Bearer realm=\"http://", fake_->host(), "/token\",service=\"s\"",
                                  ",scope=\"repository:a/b:pull\"")}}};
  });
  ASSERT_TRUE(open()->push_blob(blob("base/image")).ok());
  EXPECT_EQ(asked,
            (std::vector<std::string>{"/token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush",
                                      "/token?service=s&scope=repository%3Aa%2Fb%3Apull%2Cpush"
                                      "&scope=repository%3Abase%2Fimage%3Apull"}));
}

TEST_F(PushTest, WhatFailsForGoodIsCancelledThere) {
  fake_->accept_uploads({});
  fake_->set_hook([](const Fake::Request& request) -> std::optional<Reply> {
    if (request.method != "PATCH") return std::nullopt;
    return Reply{.status = 403, .body = R"({"errors":[{"code":"DENIED","message":"quota"}]})"};
  });
  auto pushed = open()->push_blob(blob());
  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().code(), Code::kPermissionDenied);
  EXPECT_THAT(pushed.error().message(),
              AllOf(HasSubstr(digest().text()), HasSubstr("DENIED: quota")));
  EXPECT_EQ(count("DELETE"), 1U);
  EXPECT_EQ(fake_->uploads_under_way(), 0U);
}

TEST_F(PushTest, AServerThatStaysAwayIsGivenUp) {
  fake_->accept_uploads({});
  fake_->set_hook([](const Fake::Request& request) -> std::optional<Reply> {
    if (request.method != "PATCH") return std::nullopt;
    return Reply{.status = 503};
  });
  auto pushed = open()->push_blob(blob());
  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().code(), Code::kUnavailable);
  EXPECT_EQ(count("PATCH"), 3U);
  EXPECT_EQ(fake_->uploads_under_way(), 0U);
}

TEST_F(PushTest, AnErrorOfTheSourceIsTheError) {
  fake_->accept_uploads({});
  BlobToPush broken = blob();
  broken.read_at = [](uint64_t, std::span<char>) -> Result<size_t> {
    return Error(Code::kDataLoss, "the disk is gone");
  };
  auto pushed = open()->push_blob(broken);
  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().code(), Code::kDataLoss);
  EXPECT_THAT(pushed.error().message(), HasSubstr("the disk is gone"));
  EXPECT_LE(count("PATCH"), 1U);
  EXPECT_EQ(fake_->uploads_under_way(), 0U);
}

TEST_F(PushTest, CancellingCancelsTheUploadThereToo) {
  fake_->accept_uploads({});
  auto pushed = open()->push_blob(blob(), [&](uint64_t) { cancelled_ = true; });
  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().code(), Code::kCancelled);
  EXPECT_EQ(fake_->uploads_under_way(), 0U);
}

TEST_F(PushTest, AnUploadElsewhereGetsNoAuthorization) {
  auto other = Fake::start().value();
  std::vector<std::string> seen;
  other->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    seen.emplace_back(request.header("authorization"));
    return Reply{.status = 201};
  });
  fake_->set_hook([&](const Fake::Request& request) -> std::optional<Reply> {
    if (request.header("authorization").empty()) {
      return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
    }
    if (request.method == "HEAD") return Reply{.status = 404};
    return Reply{.status = 202,
                 .headers = {{"Location", cat("http://", other->host(), "/up?sig=1")}}};
  });
  bytes_.resize(100);
  auto pushed = open({.username = "u", .password = "p"})->push_blob(blob());
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(seen, std::vector<std::string>{""});
  EXPECT_THAT(other->requests()[0], HasSubstr("PUT /up?sig=1&digest=sha256%3A"));
}

constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kEmptyDigest =
    "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

std::string artifact_of(const std::string& subject) {
  return cat(R"({ "schemaVersion":2,"mediaType":")", kManifestType,
             R"(","artifactType":"application/x.test","config":{"mediaType":)",
             R"("application/vnd.oci.empty.v1+json","digest":")", kEmptyDigest,
             R"(","size":2},"layers":[],"subject":{"mediaType":")", kManifestType,
             R"(","digest":")", subject, R"(","size":7},"annotations":{"a":"b"}})");
}

TEST_F(PushTest, AManifestIsSentByteForByte) {
  fake_->accept_uploads({});
  const std::string text = artifact_of(kEmptyDigest);
  auto pushed = open()->push_manifest("v1", kManifestType, text);
  ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  EXPECT_EQ(fake_->content("/v2/a/b/manifests/v1"), text);
  EXPECT_EQ(pushed->text(), digest_of("sha256", text)->text());
  EXPECT_EQ(fake_->requests().size(), 1U);  // the registry lists referrers by itself
}

TEST_F(PushTest, AManifestUnderAnotherDigestIsRefusedHere) {
  auto pushed = open()->push_manifest(kEmptyDigest, kManifestType, artifact_of(kEmptyDigest));
  ASSERT_FALSE(pushed.ok());
  EXPECT_EQ(pushed.error().code(), Code::kInvalidArgument);
  EXPECT_TRUE(fake_->requests().empty());
}

TEST_F(PushTest, WithoutAReferrersApiTheTagIsBroughtUpToDate) {
  fake_->accept_uploads({.lists_referrers = false});
  const std::string tag =
      cat("/v2/a/b/manifests/sha256-", std::string_view(kEmptyDigest).substr(7));
  const std::string first = artifact_of(kEmptyDigest);
  const std::string second = first + " ";
  auto session = open();
  for (const std::string& text : {first, second, first}) {
    auto pushed = session->push_manifest("v1", kManifestType, text);
    ASSERT_TRUE(pushed.ok()) << pushed.error().message();
  }
  auto index = oci::parse_index(fake_->content(tag).value_or(""));
  ASSERT_TRUE(index.ok()) << index.error().message();
  ASSERT_EQ(index->manifests.size(), 2U);
  EXPECT_EQ(index->manifests[0].digest, digest_of("sha256", first).value());
  EXPECT_EQ(index->manifests[0].artifact_type, "application/x.test");
  EXPECT_EQ(index->manifests[0].annotations.at("a"), "b");
}

}  // namespace
}  // namespace fluyt::image::registry
