#include "engine/runtime_handler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::engine {
namespace {

using testing::HasSubstr;

RuntimeHandler runc() {
  return {.name = "runc", .path = "/usr/sbin/runc", .options = {"--debug"}, .annotations = {}};
}

std::string why(const RuntimeHandler& handler) {
  const auto checked = check_handler(handler);
  return checked.ok() ? std::string("none") : checked.error().message();
}

TEST(HandlerNames, AreDnsLabels) {
  for (const char* good : {"runc", "r", "kata-qemu", "9p"}) {
    EXPECT_TRUE(check_handler_name(good).ok()) << good;
  }
  for (const std::string& bad :
       {std::string(), std::string("Runc"), std::string("-a"), std::string("a-"),
        std::string("a.b"), std::string("a/b"), std::string("a\n"), std::string(64, 'a')}) {
    EXPECT_FALSE(check_handler_name(bad).ok()) << bad;
  }
  EXPECT_THAT(check_handler_name("runf").error().message(), HasSubstr("built in"));
}

TEST(HandlerSettings, AreCheckedFieldByField) {
  EXPECT_EQ(why(runc()), "none");
  auto handler = runc();
  handler.path = "runc";
  EXPECT_THAT(why(handler), HasSubstr("path: \"runc\""));
  handler = runc();
  handler.root = "run/runc";
  EXPECT_THAT(why(handler), HasSubstr("root: "));
  for (const char* option : {"--root", "--root=/x", "-log", "--log-format", "--systemd-cgroup"}) {
    handler = runc();
    handler.options = {"--debug", option};
    EXPECT_THAT(why(handler), HasSubstr("options: ")) << option;
  }
  handler = runc();
  handler.options = {"--platform", "systrap", "--rootless=false"};
  EXPECT_EQ(why(handler), "none");
  for (const char* name : {"", "a*b", "*a", "x\ny"}) {
    handler = runc();
    handler.annotations = {name};
    EXPECT_THAT(why(handler), HasSubstr("annotations: ")) << name;
  }
}

TEST(HandlerSettings, PassTheAnnotationsThatAreNamed) {
  auto handler = runc();
  EXPECT_FALSE(passes_annotation(handler, "run.oci.handler"));
  handler.annotations = {"run.oci.*", "exact"};
  EXPECT_TRUE(passes_annotation(handler, "run.oci.handler"));
  EXPECT_TRUE(passes_annotation(handler, "exact"));
  EXPECT_FALSE(passes_annotation(handler, "exactly"));
  EXPECT_FALSE(passes_annotation(handler, "run.ocix"));
}

}  // namespace
}  // namespace fluyt::engine
