#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "base/strings.h"
#include "image/auth/auth_file.h"
#include "image/auth/credential_helper.h"
#include "image/auth/user_credentials.h"
#include "sys/file.h"

namespace fluyt::image {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Credentials, AreForTheHostOfTheirServerAddress) {
  const auto are_for = [](const char* address, const char* host) {
    return Credentials{.username = "u", .server_address = address}.are_for(host);
  };
  EXPECT_FALSE(are_for("", "any.example"));
  EXPECT_TRUE((Credentials{.username = "u"}).or_for("any.example").are_for("any.example"));
  EXPECT_FALSE((Credentials{.username = "u", .server_address = "registry.example"})
                   .or_for("any.example")
                   .are_for("any.example"));
  EXPECT_TRUE(are_for("registry.example:5000", "registry.example:5000"));
  EXPECT_TRUE(are_for("https://Registry.Example:5000/v2/", "registry.example:5000"));
  EXPECT_TRUE(are_for("https://index.docker.io/v1/", "docker.io"));
  EXPECT_TRUE(are_for("docker.io", "registry-1.docker.io"));
  EXPECT_FALSE(are_for("registry.example", "registry.example:5000"));
  EXPECT_FALSE(are_for("registry.example.evil.test", "registry.example"));
  EXPECT_FALSE(are_for("evil.test?registry.example", "registry.example"));
  EXPECT_FALSE(Credentials{}.are_for("registry.example"));
}

TEST(CredentialTable, TheLongestPrefixWins) {
  CredentialTable table;
  for (const char* key :
       {"registry.example", "registry.example/team", "registry.example/team/app", "*.example",
        "*.cloud.example", "*.cloud.example/team", "https://index.docker.io/v1/", "docker.io/me"}) {
    ASSERT_TRUE(table.add(key, {.username = key}).ok()) << key;
  }
  const auto user = [&](const char* registry, const char* repository) {
    const Credentials* found = table.find(registry, repository);
    return found == nullptr ? "none" : found->username;
  };
  EXPECT_EQ(user("registry.example", "other"), "registry.example");
  EXPECT_EQ(user("registry.example", "team/else"), "registry.example/team");
  EXPECT_EQ(user("registry.example", "team-two/app"), "registry.example");
  EXPECT_EQ(user("registry.example", "team/app"), "registry.example/team/app");
  EXPECT_EQ(user("registry.example", "team/app/deeper"), "registry.example/team/app");
  EXPECT_EQ(user("a.b.example", "x"), "*.example");
  EXPECT_EQ(user("a.cloud.example", "x"), "*.cloud.example");
  EXPECT_EQ(user("a.cloud.example", "team/x"), "*.cloud.example/team");
  EXPECT_EQ(user("a.cloud.example", "teams"), "*.cloud.example");
  EXPECT_EQ(user("example", "x"), "none");
  EXPECT_EQ(user("docker.io", "library/busybox"), "https://index.docker.io/v1/");
  EXPECT_EQ(user("docker.io", "me/app"), "docker.io/me");
}

TEST(CredentialTable, RefusesKeysThatAreNoPlace) {
  CredentialTable table;
  ASSERT_TRUE(table.add("a.example", {}).ok());
  for (const char* key :
       {"", "a.example", "https://a.example/", "a b", "*", "a.*.example", "*.*.x"}) {
    EXPECT_FALSE(table.add(key, {}).ok()) << key;
  }
}

TEST(AuthFile, ReadsWhatDockerAndContainersWrite) {
  const std::string text = cat(R"({"HttpHeaders":{"X":"y"},"auths":{
    "https://index.docker.io/v1/":{"auth":")",
                               base64_encode("hub:p:w"), R"("},
    "quay.example/team/app":{"auth":")",
                               base64_encode("robot:x"), R"("},
    "token.example":{"auth":")",
                               base64_encode("<token>:id"), R"("},
    "old.example":{"username":"u","password":"p"},
    "azure.example":{"auth":")",
                               base64_encode("0:"), R"(","identitytoken":"refresh"},
    "kept-elsewhere.example":{}},
    "credHelpers":{"ecr.example":"ecr-login"},"credsStore":"pass"})");
  const auto file = parse_auth_file(text, "config.json");
  ASSERT_TRUE(file.ok()) << file.error().message();
  EXPECT_EQ(file->auths.find("docker.io", "library/x")->password, "p:w");
  EXPECT_EQ(file->auths.find("quay.example", "team/app")->username, "robot");
  EXPECT_EQ(file->auths.find("quay.example", "team/other"), nullptr);
  EXPECT_EQ(file->auths.find("token.example", "x")->identity_token, "id");
  EXPECT_EQ(file->auths.find("token.example", "x")->username, "");
  EXPECT_EQ(file->auths.find("old.example", "x")->password, "p");
  EXPECT_EQ(file->auths.find("azure.example", "x")->identity_token, "refresh");
  EXPECT_EQ(file->auths.find("kept-elsewhere.example", "x"), nullptr);
  EXPECT_EQ(file->helpers.at("ecr.example"), "ecr-login");
  EXPECT_EQ(file->store, "pass");
}

TEST(AuthFile, TakesWhatDockerLoginByABrowserWrites) {
  const auto entry = [](const char* key, const char* user) {
    return cat("\"", key, R"(":{"auth":")", base64_encode(cat(user, ":p")), "\"}");
  };
  const std::string text =
      cat(R"({"auths":{)", entry("https://index.docker.io/v1/", "hub"), ",",
          entry("https://index.docker.io/v1/access-token", "access"), ",",
          entry("https://index.docker.io/v1/refresh-token", "refresh"), ",",
          entry("docker.io", "other"), ",", entry("https://a.example/v1/", "url"), ",",
          entry("a.example", "plain"), ",", entry("http://a.example", "old"), "}}");
  const auto file = parse_auth_file(text, "config.json");
  ASSERT_TRUE(file.ok()) << file.error().message();
  EXPECT_EQ(file->auths.find("docker.io", "library/x")->username, "hub");
  EXPECT_EQ(file->auths.find("a.example", "x")->username, "plain");
  EXPECT_EQ(file->auths.size(), 2U);
}

TEST(AuthFile, ABrokenEntryIsAnErrorForItsOwnHostAlone) {
  const auto file = parse_auth_file(R"({"auths":{"https://Bad.example/v1":{"auth":"%"},
    "a b":{"username":"u"},"good.example":{"username":"u","password":"p"}},
    "credHelpers":{"worse.example":7}})",
                                    "config.json");
  ASSERT_TRUE(file.ok()) << file.error().message();
  EXPECT_TRUE(file->check("good.example").ok());
  EXPECT_EQ(file->auths.find("good.example", "x")->username, "u");
  EXPECT_THAT(file->check("bad.example").error().message(), HasSubstr("expected base64"));
  EXPECT_FALSE(file->check("worse.example").ok());
}

TEST(AuthFile, ErrorsNameTheKeyAndNoSecret) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"auths":{"a.example":{"auth":"c2VjcmV0"}}})",
       "auths[\"a.example\"].auth: expected base64"},
      {R"({"auths":{"a.example":"secret"}})", "auths[\"a.example\"]: expected an object"},
      {R"({"auths":{"a.example":{"password":7}}})", "password: expected a string"},
      {R"({"auths":[]})", "auths: expected an object"},
      {R"({"credsStore":"../secret"})", "credsStore: expected the last part"},
      {R"({"credHelpers":{"a.example":7}})", "credHelpers[\"a.example\"]: expected a string"},
      {R"({"auths":{"a":{"auth":"secret)", "expected a JSON object"}};
  for (const auto& [text, words] : cases) {
    const auto file = parse_auth_file(text, "/x/config.json");
    const auto checked = file.ok() ? file->check("a.example") : Result<>(file.error());
    ASSERT_FALSE(checked.ok()) << text;
    EXPECT_THAT(checked.error().message(),
                AllOf(HasSubstr("/x/config.json"), HasSubstr(words), Not(HasSubstr("secret")),
                      Not(HasSubstr("c2VjcmV0"))));
  }
}

class UserCredentials : public ::testing::Test {
 protected:
  void write(const std::string& path, const std::string& text, mode_t mode = 0600) {
    const std::string file = cat(folder_.path(), "/", path);
    ASSERT_TRUE(sys::make_dirs(file.substr(0, file.rfind('/')), 0700).ok());
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, file, text, mode).ok());
  }
  static std::string auths(const std::string& host, const std::string& user) {
    return cat(R"({"auths":{")", host, R"(":{"auth":")", base64_encode(user + ":p"), R"("}}})");
  }
  Result<Credentials> find(const std::string& name, std::vector<std::string> more = {}) {
    std::vector<std::string> env{cat("HOME=", folder_.path(), "/home"),
                                 cat("XDG_RUNTIME_DIR=", folder_.path(), "/run"),
                                 cat("PATH=", folder_.path(), "/bin:/usr/bin:/bin")};
    env.insert(env.end(), more.begin(), more.end());
    return find_user_credentials(oci::Reference::parse(name).value(), env);
  }
  sys::TempDir folder_ = sys::TempDir::create().value();
};

TEST_F(UserCredentials, NoFilesAreNoCredentials) {
  const auto found = find("a.example/x");
  ASSERT_TRUE(found.ok()) << found.error().message();
  EXPECT_TRUE(found->empty());
}

TEST_F(UserCredentials, FilesAreAskedInTheirOrder) {
  write("home/.docker/config.json", auths("a.example", "docker"));
  write("run/containers/auth.json", auths("a.example", "run"));
  write("home/.config/containers/auth.json", auths("b.example/team", "config"));
  write("other/config.json", auths("a.example", "other"));
  write("one.json", auths("a.example", "one"));
  EXPECT_EQ(find("a.example/x")->username, "docker");
  EXPECT_EQ(find("a.example/x")->server_address, "a.example");
  EXPECT_EQ(find("b.example/team/x")->username, "config");
  EXPECT_TRUE(find("b.example/x")->empty());
  EXPECT_EQ(find("a.example/x", {cat("DOCKER_CONFIG=", folder_.path(), "/other")})->username,
            "other");
  EXPECT_EQ(
      find("a.example/x", {cat("REGISTRY_AUTH_FILE=", folder_.path(), "/one.json")})->username,
      "one");
}

TEST_F(UserCredentials, HelpersAreAskedByTheirProtocol) {
  write("bin/docker-credential-mine",
        "#!/bin/sh\nread host\n[ \"$1\" = get ] || exit 9\ncase $host in\n"
        "a.example) echo '{\"ServerURL\":\"a.example\",\"Username\":\"me\",\"Secret\":\"s\"}';;\n"
        "https://index.docker.io/v1/) echo '{\"Username\":\"<token>\",\"Secret\":\"id\"}';;\n"
        "c.example) echo 'the vault is closed'; exit 1;;\n"
        "*) echo 'credentials not found in native keychain'; exit 1;;\nesac\n",
        0700);
  write("home/.docker/config.json", R"({"credsStore":"mine","credHelpers":{"d.example":"gone"}})");
  EXPECT_EQ(find("a.example/x")->password, "s");
  EXPECT_EQ(find("busybox")->identity_token, "id");
  const auto none = find("b.example/x");
  ASSERT_TRUE(none.ok()) << none.error().message();
  EXPECT_TRUE(none->empty());
  const auto failed = find("c.example/x");
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(failed.error().message(),
              AllOf(HasSubstr("docker-credential-mine"), HasSubstr("the vault is closed")));
  const auto gone = find("d.example/x");
  ASSERT_FALSE(gone.ok());
  EXPECT_THAT(gone.error().message(), HasSubstr("docker-credential-gone: not found in PATH"));
}

}  // namespace
}  // namespace fluyt::image
