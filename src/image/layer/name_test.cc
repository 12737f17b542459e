#include "image/layer/name.h"

#include <gtest/gtest.h>

namespace fluyt::image {
namespace {

std::string cleaned(std::string_view name) {
  auto result = clean_name(name);
  return result.ok() ? *result : "refused";
}

TEST(CleanName, StaysInTheRoot) {
  EXPECT_EQ(cleaned("a/b"), "a/b");
  EXPECT_EQ(cleaned("./a//b/./"), "a/b");
  EXPECT_EQ(cleaned("/etc/passwd"), "etc/passwd");
  EXPECT_EQ(cleaned("a/../b"), "b");
  EXPECT_EQ(cleaned("./"), "");
  EXPECT_EQ(cleaned("/"), "");
  EXPECT_EQ(cleaned(".."), "refused");
  EXPECT_EQ(cleaned("../x"), "refused");
  EXPECT_EQ(cleaned("/../x"), "refused");
  EXPECT_EQ(cleaned("a/../../x"), "refused");
  EXPECT_EQ(cleaned("..a/b.."), "..a/b..");
  EXPECT_EQ(cleaned(""), "refused");
  EXPECT_EQ(cleaned(std::string_view("a\0b", 3)), "refused");
  EXPECT_EQ(cleaned(std::string(256, 'a')), "refused");
  EXPECT_EQ(cleaned(std::string(255, 'a')), std::string(255, 'a'));
  std::string deep;
  for (int i = 0; i < 2500; ++i) deep += "a/";
  EXPECT_EQ(cleaned(deep), "refused");
}

TEST(Classify, KnowsWhiteouts) {
  EXPECT_EQ(classify("a/b")->kind, NameKind::kPlain);
  EXPECT_EQ(classify("a/x.wh.b")->kind, NameKind::kPlain);
  EXPECT_EQ(classify("a/.wh.b")->kind, NameKind::kWhiteout);
  EXPECT_EQ(classify("a/.wh.b")->hidden, "b");
  EXPECT_EQ(classify(".wh..wh..opq")->kind, NameKind::kOpaque);
  EXPECT_EQ(classify(".wh..wh.plnk/1.2")->kind, NameKind::kMetadata);
  EXPECT_EQ(classify("a/.wh..wh.aufs")->kind, NameKind::kMetadata);
  EXPECT_FALSE(classify("a/.wh.").ok());
  EXPECT_FALSE(classify(".wh..").ok());
  EXPECT_FALSE(classify(".wh...").ok());
  EXPECT_FALSE(classify(".wh.d/f").ok());
}

TEST(IsAllowedXattr, KeepsOverlayfsAndLabelsOut) {
  EXPECT_TRUE(is_allowed_xattr("user.a"));
  EXPECT_TRUE(is_allowed_xattr("security.capability"));
  EXPECT_TRUE(is_allowed_xattr("system.posix_acl_default"));
  EXPECT_FALSE(is_allowed_xattr("trusted.overlay.opaque"));
  EXPECT_FALSE(is_allowed_xattr("trusted.overlay.redirect"));
  EXPECT_FALSE(is_allowed_xattr("user.overlay.whiteout"));
  EXPECT_FALSE(is_allowed_xattr("security.selinux"));
  EXPECT_FALSE(is_allowed_xattr("system.nfs4_acl"));
}

}  // namespace
}  // namespace fluyt::image
