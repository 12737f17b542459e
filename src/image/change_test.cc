#include "image/store_fixture.h"

namespace fluyt::image {
namespace {

using testing::FakeRegistry;
using ::testing::HasSubstr;

/// A store whose settings change while it is open.
class ChangeTest : public testing::StoreFixture {
 protected:
  StoreChange same() const {
    StoreChange change;
    change.certs_dir = options_.certs_dir;
    change.unpack_program = options_.unpack_program;
    return change;
  }
  void change(StoreChange change) {
    auto ready = library().prepare(std::move(change));
    ASSERT_TRUE(ready.ok()) << ready.error().message();
    (*ready)();
  }
  /// Whoever does not log in as `user` with "secret" is sent away.
  void close_to_all_but(const std::string& authorization) {
    fake_->set_hook([authorization](const FakeRegistry::Request& request)
                        -> std::optional<FakeRegistry::Reply> {
      if (request.header("authorization") == authorization) return std::nullopt;
      return FakeRegistry::Reply{
          .status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"x\""}}, .body = "{}"};
    });
  }
};

TEST_F(ChangeTest, CredentialsHoldForThePullsAfterIt) {
  image_with("a").serve(*fake_, "team/app", "v1");
  close_to_all_but("Basic dXNlcjpzZWNyZXQ=");  // user:secret
  EXPECT_FALSE(pull("team/app:v1").ok());
  StoreChange with_login = same();
  ASSERT_TRUE(with_login.credentials
                  .add(fake_->host() + "/team", {.username = "user", .password = "secret"})
                  .ok());
  change(with_login);
  const auto pulled = pull("team/app:v1");
  EXPECT_TRUE(pulled.ok()) << pulled.error().message();
  ASSERT_TRUE(store_->remove(name("team/app:v1")).ok());
  change(same());
  EXPECT_FALSE(pull("team/app:v1").ok());
}

TEST_F(ChangeTest, PinsHoldForWhatIsHere) {
  image_with("a").serve(*fake_, "team/app", "v1");
  ASSERT_TRUE(pull("team/app:v1").ok());
  EXPECT_FALSE((*store_->find(name("team/app:v1")))->pinned);
  StoreChange pinned = same();
  pinned.pinned = {fake_->host() + "/team/*"};
  change(pinned);
  EXPECT_TRUE((*store_->find(name("team/app:v1")))->pinned);
  change(same());
  EXPECT_FALSE((*store_->find(name("team/app:v1")))->pinned);
}

TEST_F(ChangeTest, PolicyAndBlobsHoldForThePullsAfterIt) {
  image_with("a").serve(*fake_, "team/app", "v1");
  StoreChange strict = same();
  strict.verify.policy_file = folder_->path() + "/policy.json";
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, strict.verify.policy_file,
                                     R"({"default": [{"type": "reject"}]})", 0600)
                  .ok());
  change(strict);
  const auto refused = pull_to_run("team/app:v1");
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("policy"));
  StoreChange keeping = same();
  keeping.keep_blobs = KeepBlobs::kAlways;
  change(keeping);
  const auto pulled = pull_to_run("team/app:v1");
  ASSERT_TRUE(pulled.ok()) << pulled.error().message();
  EXPECT_TRUE((*library().describe(pulled->id))->pushable);
}

TEST_F(ChangeTest, WhatIsNotPutInForceChangesNothing) {
  image_with("a").serve(*fake_, "team/app", "v1");
  ASSERT_TRUE(pull("team/app:v1").ok());
  StoreChange pinned = same();
  pinned.pinned = {"*"};
  ASSERT_TRUE(library().prepare(pinned).ok());
  EXPECT_FALSE((*store_->find(name("team/app:v1")))->pinned);
}

}  // namespace
}  // namespace fluyt::image
