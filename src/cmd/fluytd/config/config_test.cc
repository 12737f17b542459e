#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "base/strings.h"
#include "cmd/fluytd/config/keys.h"
#include "cmd/fluytd/config/load.h"
#include "cmd/fluytd/config/print.h"
#include "cmd/fluytd/config/suggest.h"
#include "cmd/fluytd/config/toml_file.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Value parsed(std::string_view text, const std::string& name = "f") {
  auto value = parse_toml(text, name);
  EXPECT_TRUE(value.ok()) << value.error().message();
  return value.ok() ? std::move(*value) : Value{.data = Value::Table{}, .place = {}};
}

/// What is wrong with a file of this content, a sentence each.
std::vector<std::string> problems_of(std::string_view text) {
  Settings settings;
  Problems problems;
  apply(parsed(text), settings, problems);
  std::vector<std::string> out;
  for (const Problem& problem : problems) out.push_back(problem.text());
  return out;
}

Settings settings_of(const Value& said) {
  Settings settings;
  Problems problems;
  apply(said, settings, problems);
  for (const Problem& problem : problems) ADD_FAILURE() << problem.text();
  return settings;
}

/// Every key's value as text: what two settings are compared by.
std::vector<std::string> written(const Settings& settings) {
  std::vector<std::string> out;
  for (const Key& key : all_keys()) {
    out.push_back(cat(key.name, " = ", to_toml(key.field.write(settings))));
  }
  return out;
}

TEST(Keys, HaveEachADocAndANameOfTheirOwn) {
  std::set<std::string> names;
  for (const Key& key : all_keys()) {
    EXPECT_TRUE(names.insert(key.name).second) << key.name;
    EXPECT_FALSE(key.doc.empty()) << key.name;
    EXPECT_FALSE(key.doc.ends_with('\n')) << key.name;
  }
}

TEST(DefaultConfig, HasEveryKeyAndSaysTheDefaults) {
  const std::string text = default_config();
  const Value said = parsed(text);
  EXPECT_EQ(written(settings_of(said)), written(Settings{}));
  for (const Key& key : all_keys()) {
    const std::string word = key.name.substr(key.name.rfind('.') + 1);
    if (key.example.empty()) {
      EXPECT_NE(place_of(said, key.name).line, 0U) << key.name;
    } else {
      EXPECT_THAT(text, HasSubstr(cat("\n#", word, " = "))) << key.name;
    }
  }
}

/// The printed default with its examples as settings.
std::string with_examples() {
  const std::string text = default_config();
  std::string out;
  for (const std::string_view line : split(text, '\n')) {
    const bool is_example = line.size() > 1 && line[0] == '#' && line[1] != ' ';
    out += cat(is_example ? line.substr(1) : line, "\n");
  }
  return out;
}

TEST(DefaultConfig, HasExamplesThatAreTaken) {
  const Value said = parsed(with_examples());
  const Settings settings = settings_of(said);
  for (const Key& key : all_keys()) {
    EXPECT_NE(place_of(said, key.name).line, 0U) << key.name;
    if (key.example.empty()) continue;
    EXPECT_NE(to_toml(key.field.write(settings)), to_toml(key.field.write(Settings{})))
        << key.name << ": an example is for a key without a default";
  }
}

TEST(Fields, WriteWhatTheyRead) {
  const Settings once = settings_of(parsed(with_examples()));
  Value again{.data = Value::Table{}, .place = {}};
  for (const Key& key : all_keys()) {
    merge(again, parsed(cat(key.name, " = ", to_toml(key.field.write(once)))));
  }
  EXPECT_EQ(written(settings_of(again)), written(once));
}

TEST(Problems, AreAllNamedWithLineKeyValueAndExpectation) {
  EXPECT_THAT(
      problems_of("root = \"var\"\n"
                  "log_level = \"loud\"\n"
                  "[image]\n"
                  "parallel_fetches = 0\n"
                  "certs_dri = \"/x\"\n"
                  "[cri]\n"
                  "streaming = 3\n"),
      testing::UnorderedElementsAre(
          "f:1: root: \"var\": expected an absolute path",
          "f:2: log_level: \"loud\": expected trace, debug, info, warn or error",
          "f:4: image.parallel_fetches: 0: expected a number from 1 to 64",
          "f:5: image.certs_dri: \"/x\": there is no such key: did you mean \"image.certs_dir\"?",
          "f:7: cri.streaming: 3: expected a table"));
}

TEST(Problems, OfListsNameTheItem) {
  EXPECT_THAT(problems_of("[cni]\nbin_dirs = [\n  \"/a\",\n  \"b\",\n  4,\n]\n"),
              ElementsAre("f:4: cni.bin_dirs[1]: \"b\": expected an absolute path",
                          "f:5: cni.bin_dirs[2]: 4: expected absolute paths"));
}

TEST(Problems, OfHandlersNameTheMember) {
  EXPECT_THAT(
      problems_of("[runtime.handlers.x]\n"
                  "path = \"runc\"\n"
                  "[runtime.handlers.Y]\n"
                  "path = \"/bin/true\"\n"
                  "[runtime.handlers.z]\n"
                  "path = \"/bin/true\"\n"
                  "options = [\"--root=/x\"]\n"
                  "[runtime.handlers.q]\n"
                  "speed = 3\n"),
      testing::UnorderedElementsAre(
          HasSubstr("f:2: runtime.handlers.x.path: \"runc\": expected an absolute path"),
          HasSubstr("f:7: runtime.handlers.z.options: [\"--root=/x\"]: \"--root=/x\": expected"),
          HasSubstr("\"Y\": expected a handler's name"),
          HasSubstr("f:9: runtime.handlers.q.speed: there is no such key: expected one "
                    "of annotations, options, path")));
}

TEST(Problems, ShowNoSecrets) {
  const auto problems = problems_of(
      "[[image.credentials]]\n"
      "match = \"a.example\"\n"
      "username = 3\n"
      "password = \"hunter2\"\n"
      "[[image.credentials]]\n"
      "match = \"b.example\"\n"
      "password = [\"hunter3\"]\n"
      "registry_tokn = \"hunter4\"\n"
      "[[image.credentials]]\n"
      "match = \"*b\"\n"
      "identity_token = \"hunter5\"\n");
  EXPECT_EQ(problems.size(), 4U);
  for (const std::string& problem : problems) {
    EXPECT_THAT(problem, testing::Not(HasSubstr("hunter")));
  }
}

TEST(Suggest, FindsSlipsAndWrongTables) {
  const std::vector<std::string> known = {"root", "log_level", "image.certs_dir", "cni.conf_dir"};
  EXPECT_EQ(nearest("loglevel", known), "log_level");
  EXPECT_EQ(nearest("certs_dir", known), "image.certs_dir");
  EXPECT_EQ(nearest("cri.conf_dir", known), "cni.conf_dir");
  EXPECT_EQ(nearest("speed", known), "");
}

TEST(Merge, LaterWinsByMemberAndCredentialsAddUp) {
  Value said = parsed(
      "root = \"/a\"\n"
      "[image]\n"
      "pinned = [\"a.example/x\"]\n"
      "keep_blobs = \"never\"\n"
      "[[image.credentials]]\n"
      "match = \"one.example\"\n"
      "username = \"old\"\n"
      "[[image.credentials]]\n"
      "match = \"two.example\"\n"
      "username = \"two\"\n"
      "[runtime.handlers.x]\n"
      "path = \"/bin/true\"\n"
      "root = \"/run/x\"\n",
      "base");
  merge(said, parsed("[image]\n"
                     "pinned = [\"b.example/y\"]\n"
                     "[[image.credentials]]\n"
                     "match = \"one.example\"\n"
                     "username = \"new\"\n"
                     "[runtime.handlers.x]\n"
                     "root = \"/run/y\"\n"
                     "[runtime.handlers.y]\n"
                     "path = \"/bin/false\"\n",
                     "over"));
  const Settings settings = settings_of(said);
  EXPECT_EQ(settings.root, "/a");
  EXPECT_EQ(settings.keep_blobs, image::KeepBlobs::kNever);
  EXPECT_THAT(settings.pinned_images, ElementsAre("b.example/y"));
  ASSERT_EQ(settings.credentials.size(), 2U);
  EXPECT_EQ(settings.credentials.at("one.example").username, "new");
  EXPECT_EQ(settings.credentials.at("two.example").username, "two");
  ASSERT_EQ(settings.handlers.size(), 2U);
  EXPECT_EQ(settings.handlers[0].path, "/bin/true");
  EXPECT_EQ(settings.handlers[0].root, "/run/y");
  EXPECT_EQ(place_of(said, "root").text(), "base:1");
  EXPECT_EQ(place_of(said, "image.pinned").text(), "over:2");
  EXPECT_EQ(place_of(said, "runtime.handlers.x.path").text(), "base:12");
}

TEST(Merge, OneMatchTwiceInAFileIsAnError) {
  EXPECT_THAT(problems_of("[[image.credentials]]\n"
                          "match = \"a.example\"\n"
                          "username = \"x\"\n"
                          "[[image.credentials]]\n"
                          "match = \"a.example\"\n"
                          "username = \"y\"\n"),
              ElementsAre(HasSubstr("image.credentials[1].match: \"a.example\": ")));
}

class Files : public testing::Test {
 protected:
  Files() : folder_(std::move(*sys::TempDir::create())) {
    EXPECT_TRUE(sys::make_dirs(folder_.path() + "/conf.d", 0755).ok());
    // The helper programs of a test are not beside it.
    write("fluytd.toml", "");
    write(
        "conf.d/00-programs.toml",
        "[programs]\nmonitor = \"/bin/true\"\npod_init = \"/bin/true\"\nunpack = \"/bin/true\"\n");
  }
  void write(const std::string& name, std::string_view text) {
    std::ofstream(folder_.path() + "/" + name) << text;
  }
  Loaded read(const std::string& flags = "") {
    Invocation invocation{.config_file = folder_.path() + "/fluytd.toml", .flags = parsed("")};
    if (!flags.empty()) invocation.flags = parsed(flags, "--flag");
    return load(invocation);
  }
  std::string problems() {
    std::string out;
    for (const Problem& problem : read().problems) out += problem.text() + "\n";
    while (out.find(folder_.path()) != std::string::npos) {
      out.replace(out.find(folder_.path()), folder_.path().size(), "DIR");
    }
    return out;
  }
  sys::TempDir folder_;
};

TEST_F(Files, AreReadInTheOrderOfNamesUnderTheFlags) {
  write("fluytd.toml", "root = \"/a\"\nstate = \"/a\"\nlog_level = \"warn\"\n");
  write("conf.d/20.toml", "state = \"/c\"\n");
  write("conf.d/10.toml", "state = \"/b\"\nlog_level = \"error\"\n");
  write("conf.d/30.toml.off", "state = \"/d\"\n");
  write("conf.d/.40.toml", "state = \"/e\"\n");
  const Loaded loaded = read("log_level = \"debug\"\n");
  EXPECT_TRUE(loaded.problems.empty()) << summary(loaded.problems);
  EXPECT_EQ(loaded.config.settings.root, "/a");
  EXPECT_EQ(loaded.config.settings.state, "/c");
  EXPECT_EQ(loaded.config.settings.log.level, LogLevel::kDebug);
  EXPECT_EQ(loaded.config.files.size(), 4U);
  EXPECT_THAT(dump(loaded.config),
              HasSubstr("state = \"/c\"  # " + folder_.path() + "/conf.d/20.toml:1\n"));
}

TEST_F(Files, AllThatIsWrongIsSaidAtOnce) {
  write("fluytd.toml", "root = \"a\"\n[cri.streaming]\naddress = \"0.0.0.0\"\n");
  write("conf.d/10.toml", "state = \n");
  write("conf.d/20.toml", "[runtime]\ndefault_handler = \"x\"\n");
  const std::string said = problems();
  EXPECT_THAT(said, HasSubstr("DIR/fluytd.toml:1: root: \"a\": expected an absolute path\n"));
  EXPECT_THAT(said, HasSubstr("DIR/conf.d/10.toml:1: "));
  EXPECT_THAT(said, HasSubstr("DIR/fluytd.toml:3: cri.streaming.address: 0.0.0.0: expected a "
                              "loopback address"));
  EXPECT_THAT(said, HasSubstr("DIR/conf.d/20.toml:2: runtime.default_handler: \"x\": expected"));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 4);
}

TEST_F(Files, AMissingOneThatWasNamedIsAnError) {
  const Loaded loaded = load({.config_file = "/no/such/file.toml", .flags = parsed("")});
  EXPECT_THAT(summary(loaded.problems), HasSubstr("/no/such/file.toml: "));
}

TEST_F(Files, DumpKeepsSecretsToItselfAndIsAConfiguration) {
  write("fluytd.toml",
        "[[image.credentials]]\nmatch = \"a.example\"\nusername = \"u\"\npassword = \"hunter2\"\n"
        "[runtime.handlers.x]\npath = \"/bin/true\"\n"
        "[runtime.handlers.y]\npath = \"/bin/true\"\nsandbox_container = false\n"
        "[image.pinned_digests]\n\"a.example/b\" = [\"sha256:"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]\n");
  const Loaded loaded = read();
  ASSERT_TRUE(loaded.problems.empty()) << summary(loaded.problems);
  const std::string text = dump(loaded.config);
  EXPECT_THAT(text, testing::Not(HasSubstr("hunter")));
  const Settings again = settings_of(parsed(text));
  EXPECT_EQ(again.handlers, loaded.config.settings.handlers);
  EXPECT_EQ(again.handlers.at(0).sandbox_container, std::nullopt);
  EXPECT_EQ(again.handlers.at(1).sandbox_container, false);
  EXPECT_EQ(again.verify.pins, loaded.config.settings.verify.pins);
  EXPECT_EQ(again.monitor_program, "/bin/true");
}

}  // namespace
}  // namespace fluyt::daemon
