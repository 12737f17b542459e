#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/base64.h"
#include "base/strings.h"
#include "base/time.h"
#include "image/blob/hasher.h"
#include "image/registry/session.h"
#include "image/testing/fake_registry.h"
#include "sys/file.h"

// Logging in: who is shown what, when, and how often.
namespace fluyt::image::registry {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Fake = image::testing::FakeRegistry;
using Reply = Fake::Reply;

// Keeps what was logged, to prove what was not.
class Listener final : public Logger {
 public:
  bool enabled(LogLevel) const override { return true; }
  void write(LogLevel, std::string_view text) override { *log_.lock() += cat(text, "\n"); }
  std::string text() const { return *log_.lock(); }

 private:
  Guarded<std::string> log_;
};

class LoginTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fake_ = Fake::start().value();
    options_.timeouts = {.connect_ms = 1000, .first_byte_ms = 2000, .stall_ms = 2000};
    options_.retry.first_delay_ms = 10;
    options_.retry.delay_cap_ms = 20;
    options_.retry.max_tries = 3;
    fake_->serve("/v2/team/app/manifests/v1", "application/vnd.oci.image.manifest.v1+json", "{}");
    fake_->set_hook([this](const Fake::Request& request) { return answer(request); });
  }

  // A registry that wants the newest token, and a token server that is told how to answer.
  std::optional<Reply> answer(const Fake::Request& request) {
    const std::lock_guard lock(mutex_);
    if (request.target.starts_with("/token")) {
      asked_.push_back(cat(request.method, " ", request.header("authorization"), " ",
                           request.method == "POST" ? request.body : request.target));
      if (request.method == "POST" && post_status_ != 200) return Reply{.status = post_status_};
      ++tokens_;
      return Reply{
          .body = cat(R"({"access_token":"t)", tokens_, R"("})")
                      .insert(1, expires_in_ == 0 ? "" : cat("\"expires_in\":", expires_in_, ","))};
    }
    if (basic_) {
      if (request.header("authorization") == basic_wanted_) return std::nullopt;
      return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
    }
    if (request.header("authorization") == cat("Bearer t", tokens_)) return std::nullopt;
    return Reply{.status = 401,
                 .headers = {{"WWW-Authenticate", cat("Bearer realm=\"http://", fake_->host(),
                                                      "/token\",service=\"s\"")}}};
  }

  std::unique_ptr<Session> open(Credentials credentials = {}) {
    if (registry_ == nullptr) registry_ = std::make_unique<Registry>(options_, log_);
    auto session = registry_->open(fake_->host(), "team/app", std::move(credentials), nullptr);
    EXPECT_TRUE(session.ok()) << session.error().message();
    return std::move(*session);
  }

  Listener log_;
  RegistryOptions options_;
  std::unique_ptr<Fake> fake_;
  std::unique_ptr<Registry> registry_;
  std::mutex mutex_;
  std::vector<std::string> asked_;
  int tokens_ = 0;
  int expires_in_ = 300;
  int post_status_ = 200;
  bool basic_ = false;
  std::string basic_wanted_;
};

TEST_F(LoginTest, AnonymousNeedsATokenToo) {
  ASSERT_TRUE(open()->get_manifest("v1").ok());
  EXPECT_THAT(asked_, ElementsAre("GET  /token?service=s&scope=repository%3Ateam%2Fapp%3Apull"));
}

TEST_F(LoginTest, AnIdentityTokenIsPosted) {
  ASSERT_TRUE(open({.identity_token = "id/="})->get_manifest("v1").ok());
  EXPECT_THAT(asked_, ElementsAre("POST  grant_type=refresh_token&client_id=fluyt&service=s&scope="
                                  "repository%3Ateam%2Fapp%3Apull&refresh_token=id%2F%3D"));
}

TEST_F(LoginTest, AServerWithoutPostGetsItByGet) {
  post_status_ = 405;
  ASSERT_TRUE(open({.identity_token = "id"})->get_manifest("v1").ok());
  ASSERT_EQ(asked_.size(), 2U);
  EXPECT_THAT(asked_[1], HasSubstr(cat("GET Basic ", base64_encode(":id"), " /token?")));
}

TEST_F(LoginTest, ARefusedIdentityTokenIsNotTriedAnotherWay) {
  post_status_ = 401;
  auto got = open({.identity_token = "id"})->get_manifest("v1");
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kUnauthenticated);
  EXPECT_THAT(got.error().message(), HasSubstr("the credentials are refused"));
  EXPECT_EQ(asked_.size(), 1U);
}

TEST_F(LoginTest, ARegistryTokenIsUsedAsItIs) {
  tokens_ = 7;
  ASSERT_TRUE(open({.registry_token = "t7"})->get_manifest("v1").ok());
  EXPECT_TRUE(asked_.empty());
}

TEST_F(LoginTest, ManyAtOnceShareOneToken) {
  auto session = open();
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { good += session->get_manifest("v1").ok() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 8);
  EXPECT_EQ(asked_.size(), 1U);
}

TEST_F(LoginTest, ATokenIsReplacedBeforeItEnds) {
  expires_in_ = 1;
  auto session = open();
  ASSERT_TRUE(session->get_manifest("v1").ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(950));
  ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(asked_.size(), 2U);
  // One 401 in all, the first: the second token was not waited for to be refused.
  EXPECT_EQ(fake_->count("GET /v2/"), 3U);
}

TEST_F(LoginTest, WithoutALifetimeATokenHasAMinute) {
  expires_in_ = 0;
  auto token = parse_token(R"({"token":"x"})");
  ASSERT_TRUE(token.ok());
  EXPECT_EQ(token->lifetime_s, 60);
  ASSERT_TRUE(open()->get_manifest("v1").ok());
}

TEST_F(LoginTest, ATokenThatEndsInMidPullIsReplacedOnce) {
  auto session = open();
  ASSERT_TRUE(session->get_manifest("v1").ok());
  {
    const std::lock_guard lock(mutex_);
    ++tokens_;  // the registry wants another from now on
  }
  ASSERT_TRUE(session->get_manifest("v1").ok());
  EXPECT_EQ(asked_.size(), 2U);
}

TEST_F(LoginTest, TheNodesCredentialsAreForTheirPrefix) {
  basic_ = true;
  basic_wanted_ = cat("Basic ", base64_encode("team:secret-2"));
  ASSERT_TRUE(
      options_.credentials.add(fake_->host(), {.username = "all", .password = "secret-1"}).ok());
  ASSERT_TRUE(options_.credentials
                  .add(cat(fake_->host(), "/team"), {.username = "team", .password = "secret-2"})
                  .ok());
  auto got = open()->get_manifest("v1");
  ASSERT_TRUE(got.ok()) << got.error().message();
  // A caller's own win, right or wrong.
  auto refused = open({.username = "me", .password = "secret-3"})->get_manifest("v1");
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(),
              AllOf(HasSubstr("the credentials are refused"), Not(HasSubstr("secret"))));
  // Those for another host leave the node's in place.
  EXPECT_TRUE(open({.username = "me", .password = "x", .server_address = "else.example"})
                  ->get_manifest("v1")
                  .ok());
  EXPECT_THAT(log_.text(), AllOf(Not(HasSubstr("secret")), Not(HasSubstr("Basic "))));
}

TEST_F(LoginTest, TheNodesAuthFileIsReadForEachPull) {
  basic_ = true;
  basic_wanted_ = cat("Basic ", base64_encode("u:p"));
  const sys::TempDir folder = sys::TempDir::create().value();
  options_.auth_file = folder.path() + "/auth.json";
  const auto write = [&](const std::string& text) {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, options_.auth_file, text, 0600).ok());
  };
  write("{}");
  EXPECT_THAT(open()->get_manifest("v1").error().message(),
              HasSubstr("wants credentials and none were given"));
  write(
      cat(R"({"auths":{")", fake_->host(), R"(/team":{"auth":")", base64_encode("u:p"), R"("}}})"));
  EXPECT_TRUE(open()->get_manifest("v1").ok());
  write(R"({"credsStore":"pass"})");
  auto helper = registry_->open(fake_->host(), "team/app", {}, nullptr);
  ASSERT_FALSE(helper.ok());
  EXPECT_THAT(helper.error().message(), HasSubstr("fluytd runs no credential helpers"));
}

/// What a mirror does that serves whoever logs in; `seen` gets what each request brought.
auto wants_a_login(std::vector<std::string>& seen) {
  return [&seen](const Fake::Request& request) -> std::optional<Reply> {
    seen.emplace_back(request.header("authorization"));
    if (!seen.back().empty()) return Reply{.body = "{}"};
    return Reply{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"m\""}}};
  };
}

TEST_F(LoginTest, AMirrorIsShownOnlyWhatIsForIt) {
  auto mirror = Fake::start().value();
  std::vector<std::string> seen;
  mirror->set_hook(wants_a_login(seen));
  const sys::TempDir folder = sys::TempDir::create().value();
  ASSERT_TRUE(sys::make_dirs(folder.path() + "/registry.test", 0700).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, folder.path() + "/registry.test/hosts.toml",
                                     cat("server = \"http://", fake_->host(), "\"\n[host.\"http://",
                                         mirror->host(), "\"]\n"),
                                     0600)
                  .ok());
  options_.certs_dir = folder.path();
  basic_ = true;
  basic_wanted_ = cat("Basic ", base64_encode("u:p"));
  registry_ = std::make_unique<Registry>(options_, log_);
  const Credentials theirs{.username = "u", .password = "p", .server_address = "registry.test"};
  // `server` stands in the registry's own place, under another name: it is a mirror in this too.
  EXPECT_FALSE(registry_->open("registry.test", "team/app", theirs, nullptr)
                   .value()
                   ->get_manifest("v1")
                   .ok());
  EXPECT_THAT(seen, ElementsAre(""));
  seen.clear();
  ASSERT_TRUE(options_.credentials.add(mirror->host(), {.username = "m", .password = "q"}).ok());
  registry_ = std::make_unique<Registry>(options_, log_);
  ASSERT_TRUE(registry_->open("registry.test", "team/app", theirs, nullptr)
                  .value()
                  ->get_manifest("v1")
                  .ok());
  EXPECT_THAT(seen, ElementsAre("", cat("Basic ", base64_encode("m:q"))));
}

// What a kubelet brings says nothing of a host: it is for the registry that the image's name says.
TEST_F(LoginTest, AMirrorIsNotShownWhatNamesNoHostUnlessItsFileSaysSo) {
  auto mirror = Fake::start().value();
  std::vector<std::string> seen;
  mirror->set_hook(wants_a_login(seen));
  const sys::TempDir folder = sys::TempDir::create().value();
  options_.certs_dir = folder.path();
  basic_ = true;
  basic_wanted_ = cat("Basic ", base64_encode("u:p"));
  const std::string host = fake_->host();
  const auto pull = [&](const std::string& more) {
    EXPECT_TRUE(sys::make_dirs(cat(folder.path(), "/", host), 0700).ok());
    EXPECT_TRUE(sys::write_file_atomic(sys::kCwd, cat(folder.path(), "/", host, "/hosts.toml"),
                                       cat("server = \"http://", host, "\"\n[host.\"http://",
                                           mirror->host(), "\"]\n", more),
                                       0600)
                    .ok());
    seen.clear();
    Registry registry(options_, log_);
    return registry.open(host, "team/app", {.username = "u", .password = "p"}, nullptr)
        .value()
        ->get_manifest("v1");
  };
  ASSERT_TRUE(pull("").ok());
  EXPECT_THAT(seen, ElementsAre(""));
  EXPECT_EQ(fake_->count("GET"), 2U) << "the registry itself was shown them";
  ASSERT_TRUE(pull("registry_login = true\n").ok());
  EXPECT_THAT(seen, ElementsAre("", basic_wanted_));
  EXPECT_EQ(fake_->count("GET"), 2U);
  // What is for the mirror by name goes before.
  ASSERT_TRUE(options_.credentials.add(mirror->host(), {.username = "m", .password = "q"}).ok());
  ASSERT_TRUE(options_.credentials.add(host, {.username = "r", .password = "s"}).ok());
  ASSERT_TRUE(pull("registry_login = true\n").ok());
  EXPECT_THAT(seen, ElementsAre("", cat("Basic ", base64_encode("m:q"))));
  Registry registry(options_, log_);
  seen.clear();
  ASSERT_TRUE(registry.open(host, "team/app", {}, nullptr).value()->get_manifest("v1").ok());
  EXPECT_THAT(seen, ElementsAre("", cat("Basic ", base64_encode("m:q"))));
}

TEST_F(LoginTest, ATokenServerThatLimitsRequestsIsGivenTheTimeItAsksFor) {
  const auto limit = [&](const std::string& retry_after, int times) {
    fake_->set_hook([=, this](const Fake::Request& request) -> std::optional<Reply> {
      if (!request.target.starts_with("/token") || request.nth > times) return answer(request);
      return Reply{.status = 429, .headers = {{"Retry-After", retry_after}}};
    });
  };
  limit("3600", 99);
  auto refused = open()->get_manifest("v1");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kResourceExhausted);
  EXPECT_THAT(refused.error().message(),
              AllOf(HasSubstr("token server"), HasSubstr("Retry-After \"3600\"")));
  EXPECT_EQ(fake_->count("GET /token"), 1U);
  limit("1", 2);  // that was one of them
  const int64_t before = now_boot_ns();
  auto got = open()->get_manifest("v1");
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_GE(now_boot_ns() - before, 1'000'000'000);
}

}  // namespace
}  // namespace fluyt::image::registry
