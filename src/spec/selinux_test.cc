#include "spec/selinux.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/strings.h"

namespace fluyt::spec {
namespace {

using ::testing::HasSubstr;

SelinuxLabels pod() {
  return {{"system_u", "system_r", "container_t", "s0:c1,c2"},
          {"system_u", "object_r", "container_file_t", "s0:c1,c2"}};
}

TEST(SelinuxContext, HasThreeWordsAndALevelThatMayHoldColons) {
  for (const char* text : {"u:r:t", "u:r:t:s0", "u:r:t:s0-s15:c0.c1023", "u_u:r-r:t.t:s0:c4,c5"}) {
    const auto context = parse_selinux_context(text);
    ASSERT_TRUE(context.ok()) << context.error().message();
    EXPECT_EQ(context->text(), text);
  }
  EXPECT_EQ(parse_selinux_context("u:r:t:s0-s1:c7")->level, "s0-s1:c7");
  for (const char* text : {"", "u", "u:r", "u::t", "u:r:t:", "u:r:t t", "u:r:t:s0,c1"}) {
    EXPECT_FALSE(parse_selinux_context(text).ok()) << text;
  }
}

TEST(SelinuxLevel, IsASensitivityWithCategoriesOrARangeOfSuch) {
  for (const char* text : {"s0", "s15", "s0:c1", "s0:c1,c2", "s0:c0.c1023", "s0:c1,c5.c7,c9",
                           "s0-s0:c0.c1023", "s0:c1-s15:c1,c2"}) {
    EXPECT_TRUE(is_selinux_level(text)) << text;
  }
  for (const char* text : {"", "s", "0", "s0:", "s0,c4,c5", "s0:c", "s0:c1,", "s0:c1..c2", "s0-",
                           "-s0", "s0-s1-s2", "s0:c10000", "s0:c1 ", "s0:s1"}) {
    EXPECT_FALSE(is_selinux_level(text)) << text;
  }
}

TEST(SelinuxPolicy, IsTheOneThatTheConfigurationNames) {
  EXPECT_EQ(selinux_policy_of("# SELINUXTYPE=mls\nSELINUX=enforcing\n SELINUXTYPE = default \n"),
            "default");
  EXPECT_EQ(selinux_policy_of("SELINUX=permissive\n"), "targeted");
  EXPECT_EQ(selinux_policy_of("SELINUXTYPE=../../tmp\n"), "targeted");
}

TEST(ContainerContexts, AreThoseOfTheFileOrTheUsualOnes) {
  const auto given = parse_container_contexts(
      "; of the policy\n"
      "process = \"system_u:system_r:svirt_lxc_net_t:s0\"\n"
      "content = \"system_u:object_r:virt_var_lib_t:s0\"\n"
      "file=\"system_u:object_r:svirt_lxc_file_t:s0\"\n");
  ASSERT_TRUE(given.ok()) << given.error().message();
  EXPECT_EQ(given->process.text(), "system_u:system_r:svirt_lxc_net_t:s0");
  EXPECT_EQ(given->file.text(), "system_u:object_r:svirt_lxc_file_t:s0");
  const auto usual = parse_container_contexts("");
  EXPECT_EQ(usual->process.text(), "system_u:system_r:container_t:s0");
  EXPECT_EQ(usual->file.text(), "system_u:object_r:container_file_t:s0");
  EXPECT_THAT(parse_container_contexts("file = \"container_file_t\"").error().message(),
              HasSubstr("file: \"container_file_t\": expected an SELinux context"));
}

TEST(SelinuxLabels, WhatIsNotAskedForStaysAsItIsAbove) {
  EXPECT_EQ(*selinux_labels(pod(), {}), pod());
  const auto type = selinux_labels(pod(), {.user = {}, .role = {}, .type = "spc_t", .level = {}});
  EXPECT_EQ(type->process.text(), "system_u:system_r:spc_t:s0:c1,c2");
  EXPECT_EQ(type->file, pod().file);
  const auto rest =
      selinux_labels(pod(), {.user = "user_u", .role = "user_r", .type = {}, .level = "s0"});
  EXPECT_EQ(rest->process.text(), "user_u:user_r:container_t:s0");
  EXPECT_EQ(rest->file.text(), "user_u:object_r:container_file_t:s0");
}

TEST(SelinuxLabels, AWordThatIsNoneIsRefusedByName) {
  const auto why = [](const SelinuxOptions& asked) {
    const auto labels = selinux_labels(pod(), asked);
    return labels.ok() ? std::string() : labels.error().message();
  };
  EXPECT_THAT(why({.user = "a:b", .role = {}, .type = {}, .level = {}}),
              HasSubstr("user: \"a:b\""));
  EXPECT_THAT(why({.user = {}, .role = {}, .type = "a b", .level = {}}),
              HasSubstr("type: \"a b\""));
  EXPECT_THAT(why({.user = {}, .role = {}, .type = {}, .level = "s0,c4,c5"}),
              HasSubstr("level: \"s0,c4,c5\": expected one such as s0:c1,c2"));
}

TEST(SelinuxLabels, TheFilesLabelIsOneThatAMountTakes) {
  const std::string above = "system_u:object_r:container_file_t:";
  std::string level = "s0:c1";
  while (above.size() + level.size() + 5 <= 255) level += ",c100";
  EXPECT_TRUE(selinux_labels(pod(), {.user = {}, .role = {}, .type = {}, .level = level}).ok());
  level += ",c1000";
  const auto wrong = selinux_labels(pod(), {.user = {}, .role = {}, .type = {}, .level = level});
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().message().find(cat("level: \"", level.substr(0, 20))), 0U)
      << wrong.error().message();
  EXPECT_THAT(wrong.error().message(), HasSubstr("bytes with it, expected at most 255"));
  const auto user = selinux_labels(
      pod(), {.user = std::string(230, 'u'), .role = {}, .type = {}, .level = "s0:c1"});
  ASSERT_FALSE(user.ok());
  EXPECT_EQ(user.error().message().find("user: \"uuu"), 0U) << user.error().message();
}

}  // namespace
}  // namespace fluyt::spec
