#include "oci/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace fluyt::oci {
namespace {

using testing::HasSubstr;

TEST(Digest, ReadsBothAlgorithms) {
  const std::string sha256 = "sha256:" + std::string(64, 'a');
  const std::string sha512 = "sha512:" + std::string(128, '0');
  EXPECT_EQ(Digest::parse(sha256)->algorithm(), "sha256");
  EXPECT_EQ(Digest::parse(sha256)->hex(), std::string(64, 'a'));
  EXPECT_EQ(Digest::parse(sha512)->text(), sha512);
}

TEST(Digest, RefusesOtherAlgorithmsByName) {
  const auto result = Digest::parse("md5:d41d8cd98f00b204e9800998ecf8427e");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kInvalidArgument);
  EXPECT_THAT(result.error().message(), HasSubstr("not \"md5\""));
}

TEST(Digest, RefusesWhatIsNotExactlyLowerHex) {
  for (const std::string& text :
       {std::string(), std::string("sha256"), std::string("sha256:"),
        "sha256:" + std::string(63, 'a'), "sha256:" + std::string(65, 'a'),
        "sha256:" + std::string(64, 'A'), "sha256:" + std::string(64, 'g'),
        "sha256:" + std::string(63, 'a') + "/", "sha512:" + std::string(64, 'a'),
        ":" + std::string(64, 'a'), "SHA256:" + std::string(64, 'a')}) {
    EXPECT_FALSE(Digest::parse(text).ok()) << text;
  }
}

}  // namespace
}  // namespace fluyt::oci
