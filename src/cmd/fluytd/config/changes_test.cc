#include "cmd/fluytd/config/changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/strings.h"
#include "cmd/fluytd/config/keys.h"
#include "cmd/fluytd/config/toml_file.h"

namespace fluyt::daemon {
namespace {

/// A value for each key that is not its default. A key that is missing here fails the test below.
const std::map<std::string, std::string>& others() {
  static const std::map<std::string, std::string> all = {
      {"root", "\"/x\""},
      {"state", "\"/x\""},
      {"listen", "\"unix:/x\""},
      {"log_level", "\"warn\""},
      {"log_format", "\"json\""},
      {"log_target", "\"file\""},
      {"log_file", "\"/x\""},
      {"log_file_max_bytes", "0"},
      {"log_file_keep", "7"},
      {"cdi_dirs", "[\"/x\"]"},
      {"selinux", "true"},
      {"cgroup.driver", "\"systemd\""},
      {"cgroup.parent", "\"/x\""},
      {"cgroup.monitors", "\"/x\""},
      {"cni.conf_dir", "\"/x\""},
      {"cni.bin_dirs", "[\"/x\"]"},
      {"network.builtin", "false"},
      {"image.certs_dir", "\"/x\""},
      {"image.parallel_fetches", "7"},
      {"image.max_fetches", "7"},
      {"image.keep_blobs", "\"always\""},
      {"image.layer_form", "\"erofs\""},
      {"image.root_driver", "\"copy\""},
      {"image.pinned", "[\"a.example/b*\"]"},
      {"image.auth_file", "\"/x\""},
      {"image.policy_file", "\"/x\""},
      {"image.policy_dir", "\"/x\""},
      {"image.registries_dir", "\"/x\""},
      {"image.verifier_dir", "\"/x\""},
      {"image.verifier_timeout", "7"},
      {"image.max_verifiers", "-1"},
      {"image.pinned_digests",
       "{ \"a.example\" = [\"sha256:"
       "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"] }"},
      {"image.credentials", "[{ match = \"a.example\", registry_token = \"hunter2\" }]"},
      {"cri.streaming.address", "\"::1\""},
      {"cri.streaming.port", "7"},
      {"cri.streaming.tls_cert", "\"/x\""},
      {"cri.streaming.tls_key", "\"/x\""},
      {"cri.streaming.tls_client_ca", "\"/x\""},
      {"cri.streaming.idle_timeout", "7"},
      {"cri.streaming.stream_creation_timeout", "7"},
      {"cri.streaming.max_connections", "7"},
      {"metrics.listen", "\"127.0.0.1:7\""},
      {"tracing.endpoint", "\"http://127.0.0.1:7\""},
      {"tracing.sampling_per_million", "7"},
      {"tracing.service_name", "\"x\""},
      {"programs.monitor", "\"/x\""},
      {"programs.pod_init", "\"/x\""},
      {"programs.unpack", "\"/x\""},
      {"programs.gpgv", "\"/x\""},
      {"runtime.default_handler", "\"x\""},
      {"runtime.handlers", "{ x = { path = \"/x\" } }"},
  };
  return all;
}

Config config_of(const std::string& text) {
  Config config;
  auto said = parse_toml(text, "f");
  EXPECT_TRUE(said.ok()) << said.error().message();
  config.said = std::move(*said);
  Problems problems;
  apply(config.said, config.settings, problems);
  for (const Problem& problem : problems) ADD_FAILURE() << problem.text();
  return config;
}

TEST(Changes, EachKeyIsOneAndIsTakenOrKept) {
  const Settings old;
  for (const Key& key : all_keys()) {
    ASSERT_TRUE(others().contains(key.name)) << key.name;
    const Config next = config_of(cat("\n", key.name, " = ", others().at(key.name)));
    const auto changes = changes_between(old, next);
    ASSERT_EQ(changes.size(), 1U) << key.name;
    EXPECT_EQ(changes.front().key, key.name);
    EXPECT_EQ(changes.front().place.text(), "f:2");
    const bool by_restart = key.change == Key::Change::kByRestart;
    EXPECT_EQ(changes.front().by_restart, by_restart) << key.name;
    EXPECT_EQ(touches(changes, key.name), !by_restart) << key.name;

    Settings kept = next.settings;
    keep_fixed(old, kept);
    EXPECT_EQ(to_toml(key.field.write(kept)),
              to_toml(key.field.write(by_restart ? old : next.settings)))
        << key.name;
  }
}

TEST(Changes, TheRestartOnesAreThoseThatAreSaidToBe) {
  std::set<std::string> fixed;
  for (const Key& key : all_keys()) {
    if (key.change == Key::Change::kByRestart) fixed.insert(key.name);
  }
  EXPECT_THAT(fixed, testing::ElementsAre("cgroup.driver", "listen", "root", "state"));
}

TEST(Changes, OfSecretsShowNone) {
  const Config old =
      config_of("image.credentials = [{ match = \"a.example\", registry_token = \"hunter1\" }]");
  const auto changes = changes_between(
      old.settings, config_of(cat("image.credentials = ", others().at("image.credentials"))));
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_THAT(changes.front().from + changes.front().to,
              testing::Not(testing::HasSubstr("hunter")));
}

TEST(Changes, TheSameIsNone) {
  const std::string text = "log_level = \"info\"\n[image]\npinned = []\n";
  EXPECT_TRUE(changes_between(Settings{}, config_of(text)).empty());
}

}  // namespace
}  // namespace fluyt::daemon
