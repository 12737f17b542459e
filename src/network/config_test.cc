#include "network/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::network {
namespace {

using ::testing::HasSubstr;

TEST(Config, AListKeepsItsPluginsAsTheyWere) {
  auto config = parse_config(
      R"({"cniVersion":"1.0.0","name":"pods","disableCheck":"true","plugins":[{"type":"bridge","x":{"y":[1]}}]})",
      Form::kList);
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->name, "pods");
  EXPECT_TRUE(config->disable_check);
  ASSERT_EQ(config->plugins.size(), 1U);
  EXPECT_EQ(config->plugins[0].type, "bridge");
  EXPECT_EQ(config->plugins[0].json, R"({"type":"bridge","x":{"y":[1]}})");
}

TEST(Config, TheHighestVersionThatWeSpeakIsChosen) {
  auto version = [](const char* fields) {
    return parse_config(cat("{", fields, R"(,"name":"a","type":"b"})"), Form::kPlugin)
        .value()
        .version;
  };
  EXPECT_EQ(version(R"("cniVersion":"0.3.1")"), "0.3.1");
  EXPECT_EQ(version(R"("cniVersion":"0.4.0","cniVersions":["0.3.1","1.1.0","1.0.0","9.0.0"])"),
            "1.1.0");
}

TEST(Config, ErrorsNameTheField) {
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "a JSON object is expected"},
      {R"({"cniVersion":"1.0.0"})", "name: missing"},
      {R"({"cniVersion":"1.0.0","name":"../x","plugins":[]})", "name: \"../x\""},
      {R"({"name":"x","plugins":[]})", "cniVersion: missing"},
      {R"({"cniVersion":"0.2.0","name":"x","plugins":[]})", "cniVersion: \"0.2.0\""},
      {R"({"cniVersion":7,"name":"x","plugins":[]})", "cniVersion: text is expected"},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":{}})", "plugins: a list is expected"},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":[{"type":"../sh"}]})",
       "plugins[0]: type: \"../sh\""},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":[{"type":"a"},{}]})",
       "plugins[1]: type: missing"},
      {R"({"cniVersion":"1.0.0","name":"x","plugins":[{"type":"a","capabilities":[]}]})",
       "plugins[0]: capabilities"},
      {R"({"cniVersion":"1.0.0","name":"x","disableCheck":1,"plugins":[]})", "disableCheck"},
      {R"({"cniVersion":"1.0.0","name":"x","loadOnlyInlinedPlugins":true})", "plugins: missing"},
  };
  for (const auto& [text, expected] : cases) {
    auto config = parse_config(text, Form::kList);
    ASSERT_FALSE(config.ok()) << text;
    EXPECT_THAT(config.error().message(), HasSubstr(expected)) << text;
  }
}

TEST(Config, AFolderGivesItsFilesByNameAndPluginsFromTheListsOwnFolder) {
  auto dir = sys::TempDir::create().value();
  auto put = [&](const std::string& name, const std::string& text) {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, cat(dir.path(), "/", name), text, 0644).ok());
  };
  ASSERT_TRUE(sys::make_dirs(cat(dir.path(), "/pods"), 0755).ok());
  put("20.conf", R"({"cniVersion":"1.0.0","name":"single","type":"ptp"})");
  put("10.conflist", R"({"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"}]})");
  put("05.json", R"({"cniVersion":"1.0.0","name":"empty","plugins":[]})");
  put("README", "not a configuration");
  put("pods/50-tuning.conf", R"({"type":"tuning"})");
  auto loaded = load_folder(dir.path());
  ASSERT_TRUE(loaded.ok());
  ASSERT_EQ(loaded->networks.size(), 2U);
  EXPECT_EQ(loaded->networks[0].name, "pods");
  ASSERT_EQ(loaded->networks[0].plugins.size(), 2U);
  EXPECT_EQ(loaded->networks[0].plugins[1].type, "tuning");
  EXPECT_EQ(loaded->networks[1].name, "single");
  ASSERT_EQ(loaded->broken.size(), 1U);
  EXPECT_EQ(loaded->broken[0].reason, "plugins: none");

  const std::string before = fingerprint_of(dir.path());
  EXPECT_EQ(before, fingerprint_of(dir.path()));
  put("pods/50-tuning.conf", R"({"type":"tuning","x":1})");
  EXPECT_NE(before, fingerprint_of(dir.path()));
}

}  // namespace
}  // namespace fluyt::network
