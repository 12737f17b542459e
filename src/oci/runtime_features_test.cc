#include "oci/runtime_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::oci {
namespace {

using testing::HasSubstr;

RuntimeFeatures read(std::string_view json) {
  auto features = parse_runtime_features(json);
  EXPECT_TRUE(features.ok()) << features.error().message();
  return features.ok() ? *features : RuntimeFeatures{};
}

TEST(RuntimeFeatures, AreReadFromTheDocument) {
  EXPECT_EQ(
      read(R"({"ociVersionMin":"1.0.0","ociVersionMax":"1.2.1","hooks":["poststop"],
                     "mountOptions":["async","ro","rro","rw"],
                     "linux":{"namespaces":["cgroup","mount","user"],
                              "mountExtensions":{"idmap":{"enabled":true}},
                              "seccomp":{"enabled":true}},
                     "annotations":{"x":"y"}})"),
      (RuntimeFeatures{
          .recursive_readonly_mounts = true, .idmapped_mounts = true, .user_namespaces = true}));
}

TEST(RuntimeFeatures, WhatIsLeftOutIsNotThere) {
  EXPECT_EQ(read("{}"), RuntimeFeatures{});
  EXPECT_EQ(read(R"({"mountOptions":["ro"],"linux":null})"), RuntimeFeatures{});
  EXPECT_EQ(read(R"({"linux":{"mountExtensions":{"idmap":{"enabled":false}},
                              "namespaces":["user"]}})"),
            RuntimeFeatures{});
}

TEST(RuntimeFeatures, UserNamespacesTakeBothHalves) {
  EXPECT_FALSE(read(R"({"linux":{"namespaces":["user"]}})").user_namespaces);
  const auto without = read(R"({"linux":{"mountExtensions":{"idmap":{"enabled":true}}}})");
  EXPECT_TRUE(without.idmapped_mounts);
  EXPECT_FALSE(without.user_namespaces);
}

TEST(RuntimeFeatures, ASandboxsContainerIsAnAnnotation) {
  EXPECT_TRUE(read(R"({"annotations":{"dev.fluyt.sandbox-container":"true"}})").sandbox_container);
  EXPECT_FALSE(read(R"({"annotations":{"dev.fluyt.sandbox-container":"no"}})").sandbox_container);
  EXPECT_FALSE(read(R"({"annotations":null})").sandbox_container);
}

TEST(RuntimeFeatures, WrongTypesAreNamed) {
  auto error = [](std::string_view json) {
    auto features = parse_runtime_features(json);
    return features.ok() ? std::string("none") : features.error().message();
  };
  EXPECT_THAT(error("[]"), HasSubstr("object"));
  EXPECT_THAT(error("runc version 1.0"), HasSubstr("object"));
  EXPECT_THAT(error(R"({"mountOptions":"rro"})"), HasSubstr("mountOptions"));
  EXPECT_THAT(error(R"({"mountOptions":[1]})"), HasSubstr("mountOptions"));
  EXPECT_THAT(error(R"({"linux":7})"), HasSubstr("linux"));
  EXPECT_THAT(error(R"({"linux":{"namespaces":{}}})"), HasSubstr("linux.namespaces"));
  EXPECT_THAT(error(R"({"linux":{"mountExtensions":{"idmap":{"enabled":"yes"}}}})"),
              HasSubstr("idmap.enabled"));
  EXPECT_THAT(error(R"({"annotations":{"dev.fluyt.sandbox-container":true}})"),
              HasSubstr("annotations.dev.fluyt.sandbox-container: expected a string"));
}

}  // namespace
}  // namespace fluyt::oci
