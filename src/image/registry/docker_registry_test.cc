#include "image/testing/docker_registry.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "base/strings.h"
#include "image/blob/hasher.h"
#include "image/registry/session.h"

// Against the registry that Debian ships: what our own fake says of the protocol may be wrong.
namespace fluyt::image::registry {
namespace {

using image::testing::DockerRegistry;

class RealRegistry : public ::testing::TestWithParam<DockerRegistry::Login> {
 protected:
  void SetUp() override {
    auto started = DockerRegistry::start(GetParam());
    if (!started.ok() && started.error().code() == Code::kNotFound) {
      GTEST_SKIP() << started.error().message();
    }
    ASSERT_TRUE(started.ok()) << started.error().message();
    server_ = std::move(*started);
    RegistryOptions options;
    options.push_chunk_bytes = 100'000;
    registry_ = std::make_unique<Registry>(options, logger_);
  }

  std::unique_ptr<Session> open(const std::string& repository, Purpose purpose) {
    Credentials credentials;
    if (GetParam() == DockerRegistry::Login::kBasic) {
      credentials = {.username = "u", .password = "p w"};
    }
    return registry_->open(server_->host(), repository, credentials, nullptr, purpose).value();
  }

  static BlobToPush blob(const std::string& bytes, std::string mount_from = "") {
    return {digest_of("sha256", bytes).value(), bytes.size(),
            [&bytes](uint64_t offset, std::span<char> into) -> Result<size_t> {
              const size_t n = std::min(into.size(), bytes.size() - offset);
              memcpy(into.data(), bytes.data() + offset, n);
              return n;
            },
            std::move(mount_from)};
  }

  NullLogger logger_;
  std::unique_ptr<DockerRegistry> server_;
  std::unique_ptr<Registry> registry_;
};

TEST_P(RealRegistry, TakesBlobsWholeInChunksAndByMountAndGivesThemBack) {
  const std::string config = R"({"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[]}})";
  std::string layer;
  while (layer.size() < 350'000) layer += cat(layer.size(), ";");
  auto session = open("a/b", Purpose::kPush);
  for (const std::string* bytes : std::array<const std::string*, 2>{&config, &layer}) {
    auto pushed = session->push_blob(blob(*bytes));
    ASSERT_TRUE(pushed.ok()) << pushed.error().message();
    EXPECT_EQ(*pushed, PushedBlob::kUploaded);
    auto again = session->push_blob(blob(*bytes));
    ASSERT_TRUE(again.ok()) << again.error().message();
    EXPECT_EQ(*again, PushedBlob::kExisted);
  }
  auto other = open("c", Purpose::kPush);
  auto mounted = other->push_blob(blob(layer, "a/b"));
  ASSERT_TRUE(mounted.ok()) << mounted.error().message();
  EXPECT_EQ(*mounted, PushedBlob::kMounted);

  std::string got;
  auto reader = open("c", Purpose::kPull);
  auto fetched =
      reader->fetch_blob(blob(layer).digest, layer.size(), [&](std::string_view bytes) -> Result<> {
        got += bytes;
        return {};
      });
  ASSERT_TRUE(fetched.ok()) << fetched.error().message();
  EXPECT_EQ(got, layer);

  const oci::Manifest manifest{.media_type = std::string(oci::media_type::kOciManifest),
                               .config = {.media_type = std::string(oci::media_type::kOciConfig),
                                          .digest = blob(config).digest,
                                          .size = static_cast<int64_t>(config.size())},
                               .layers = {{.media_type = std::string(oci::media_type::kOciLayer),
                                           .digest = blob(layer).digest,
                                           .size = static_cast<int64_t>(layer.size())}}};
  const std::string text = oci::to_json(manifest) + "\n";  // its bytes are to be kept
  auto put = session->push_manifest("v1", manifest.media_type, text);
  ASSERT_TRUE(put.ok()) << put.error().message();
  auto back = open("a/b", Purpose::kPull)->get_manifest("v1");
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->bytes, text);
  EXPECT_EQ(back->digest, *put);
}

TEST_P(RealRegistry, RefusesABlobUnderAWrongDigest) {
  const std::string bytes = "content";
  BlobToPush wrong = blob(bytes);
  wrong.digest = digest_of("sha256", "another").value();
  auto pushed = open("a/b", Purpose::kPush)->push_blob(wrong);
  ASSERT_FALSE(pushed.ok());
  EXPECT_NE(pushed.error().message().find("DIGEST_INVALID"), std::string::npos)
      << pushed.error().message();
}

INSTANTIATE_TEST_SUITE_P(Logins, RealRegistry,
                         ::testing::Values(DockerRegistry::Login::kNone,
                                           DockerRegistry::Login::kBasic));

}  // namespace
}  // namespace fluyt::image::registry
