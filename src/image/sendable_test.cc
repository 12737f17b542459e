#include "image/sendable.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::image {
namespace {

using oci::Descriptor;
using oci::Digest;

TEST(Sendable, ALayersTypeStaysOfItsFamily) {
  const auto gzip = [](std::string_view type) { return layer_type(type, LayerCompression::kGzip); };
  const auto tar = [](std::string_view type) { return layer_type(type, LayerCompression::kNone); };
  for (const std::string_view type : {oci::media_type::kOciLayer, oci::media_type::kOciLayerGzip,
                                      oci::media_type::kOciLayerZstd}) {
    EXPECT_EQ(gzip(type), oci::media_type::kOciLayerGzip);
    EXPECT_EQ(tar(type), oci::media_type::kOciLayer);
  }
  EXPECT_EQ(gzip("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            oci::media_type::kDockerLayerGzip);
  EXPECT_EQ(tar("application/vnd.docker.image.rootfs.diff.tar.gzip"),
            "application/vnd.docker.image.rootfs.diff.tar");
  // Not ours to distribute.
  EXPECT_EQ(gzip("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), std::nullopt);
  EXPECT_EQ(gzip("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"), std::nullopt);
  EXPECT_EQ(gzip(oci::media_type::kOciConfig), std::nullopt);
}

TEST(Sendable, OtherLayersLeaveTheRestOfAManifestAlone) {
  const std::string before =
      R"({"schemaVersion":2,"mediaType":"m","config":{"x":1},"layers":[{"digest":"a"},)"
      R"({"digest":"b","annotations":{"of":"b"}}],"annotations":{"kept":"yes"},"other":[1]})";
  const Digest digest = Digest::from_sha256_hex(std::string(64, 'c'));
  const auto after =
      with_layers(before, {{1, Descriptor{.media_type = "type", .digest = digest, .size = 7}}});
  ASSERT_TRUE(after.ok()) << after.error().message();
  EXPECT_EQ(*after, R"({"schemaVersion":2,"mediaType":"m","config":{"x":1},"layers":[)"
                    R"({"digest":"a"},{"mediaType":"type","digest":")" +
                        digest.text() +
                        R"(","size":7}],"annotations":{"kept":"yes"},"other":[1]})");
  EXPECT_FALSE(with_layers(before, {{2, Descriptor{.digest = digest}}}).ok());
  EXPECT_FALSE(with_layers("[]", {}).ok());
  EXPECT_FALSE(with_layers(R"({"layers":7})", {}).ok());
}

}  // namespace
}  // namespace fluyt::image
