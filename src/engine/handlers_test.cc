#include "engine/handlers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "base/log.h"
#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

using testing::HasSubstr;

class Handlers : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = sys::TempDir::create();
    ASSERT_TRUE(folder.ok());
    folder_ = std::make_unique<sys::TempDir>(std::move(*folder));
    options_.handlers = {{.name = "one", .path = path("one"), .options = {"--quiet"}},
                         {.name = "two", .path = path("two")}};
  }
  std::string path(const std::string& name) const { return folder_->path() + "/" + name; }
  // In place of the old one, as packages do it: a program that runs cannot be written.
  void install(const std::string& name, const std::string& script) const {
    const auto written =
        sys::write_file_atomic(sys::kCwd, path(name), cat("#!/bin/sh\n", script, "\n"), 0755);
    ASSERT_TRUE(written.ok()) << written.error().message();
  }
  Options options_;
  NullLogger logger_;
  std::unique_ptr<sys::TempDir> folder_;
};

TEST_F(Handlers, AreChosenByName) {
  EXPECT_EQ(*choose_handler(options_, ""), nullptr);
  EXPECT_EQ(*choose_handler(options_, "runf"), nullptr);
  EXPECT_EQ((*choose_handler(options_, "two"))->path, path("two"));
  const auto unknown = choose_handler(options_, "kata");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code(), Code::kInvalidArgument);
  EXPECT_EQ(unknown.error().message(),
            "runtime_handler: \"kata\": expected \"\" or one of \"runf\", \"one\", \"two\"");
}

TEST_F(Handlers, TheDefaultStandsForNoName) {
  options_.default_handler = "one";
  EXPECT_EQ((*choose_handler(options_, ""))->name, "one");
  EXPECT_EQ(handler_name(options_, ""), "one");
  EXPECT_EQ(handler_name(options_, "two"), "two");
  EXPECT_EQ(*choose_handler(options_, "runf"), nullptr);
}

TEST_F(Handlers, SayThemselvesWhatTheyCan) {
  // With its own options in front of the command.
  install("one", R"([ "$*" = "--quiet features" ] && echo '{"mountOptions":["rro"]}')");
  install("two", "echo 'unknown command' >&2; exit 1");
  HandlerFeatures features;
  features.ask_all(options_, logger_);
  EXPECT_TRUE(features.of("one").recursive_readonly_mounts);
  EXPECT_FALSE(features.of("two").recursive_readonly_mounts);
  EXPECT_FALSE(features.of("three").recursive_readonly_mounts);
}

TEST_F(Handlers, AreAskedAgainWhenTheirFileHasChanged) {
  install("one", "echo '{}'; echo asked >>" + path("log"));
  HandlerFeatures features;
  features.ask_all(options_, logger_);
  EXPECT_FALSE(features.any_changed(options_));
  features.ask_changed(options_, logger_);
  EXPECT_EQ(sys::read_file(path("log"), 100).value_or(""), "asked\n");
  install("one", R"(echo '{"mountOptions":["rro"]}')");
  EXPECT_TRUE(features.any_changed(options_));
  EXPECT_FALSE(features.of("one").recursive_readonly_mounts);
  features.ask_changed(options_, logger_);
  EXPECT_TRUE(features.of("one").recursive_readonly_mounts);
  ASSERT_TRUE(sys::remove_file(sys::kCwd, path("one")).ok());
  EXPECT_TRUE(features.any_changed(options_));
  features.ask_changed(options_, logger_);
  EXPECT_FALSE(features.of("one").recursive_readonly_mounts);
  EXPECT_FALSE(features.any_changed(options_));
}

TEST_F(Handlers, AreAskedAgainWhenTheyGaveNoAnswer) {
  install("one",
          cat("[ -e ", path("quick"), R"( ] || exec sleep 60; echo '{"mountOptions":["rro"]}')"));
  install("two", "exit 1");
  HandlerFeatures features;
  features.ask_all(options_, logger_);
  EXPECT_FALSE(features.of("one").recursive_readonly_mounts);
  EXPECT_TRUE(features.any_changed(options_));
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path("quick"), "", 0600).ok());
  features.ask_changed(options_, logger_);
  EXPECT_TRUE(features.of("one").recursive_readonly_mounts);
  EXPECT_FALSE(features.any_changed(options_));
}

}  // namespace
}  // namespace fluyt::engine
