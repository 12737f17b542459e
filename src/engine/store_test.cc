#include "engine/store.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "engine/record.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

Sandbox full_sandbox() {
  Sandbox sandbox;
  sandbox.id = "5a";
  sandbox.config.name = {"pod", "default", "uid-1", 2};
  sandbox.config.dns = {{"10.0.0.1"}, {"svc.local"}, {"ndots:5"}};
  sandbox.config.port_mappings = {{"tcp", 80, 8080, "127.0.0.1"}};
  sandbox.config.annotations = {{"a/b", "c\nd"}};
  sandbox.config.namespaces.pid = NamespaceMode::kContainer;
  sandbox.config.seccomp = SecurityProfile{SecurityProfile::Type::kLocalhost, "/p.json"};
  sandbox.config.run_as_user = 1000;
  sandbox.state = SandboxState::kReady;
  sandbox.runtime_handler = "runc";
  sandbox.handler = "runc";
  sandbox.ips = {"10.1.0.2", "fd00::2"};
  sandbox.network_attached = true;
  return sandbox;
}

Container full_container() {
  Container container;
  container.id = "c0";
  container.sandbox_id = "5a";
  container.state = ContainerState::kExited;
  container.config.name = {"main", 1};
  container.config.envs = {{"BYTES", std::string("\xff\x00x", 3)}};
  container.config.mounts = {{.container_path = "/data",
                              .host_path = "/srv",
                              .readonly = true,
                              .propagation = Propagation::kBidirectional,
                              .uid_maps = {{0, 1000, 1}}}};
  container.config.security.masked_paths = std::vector<std::string>{};
  container.config.security.groups_policy = GroupsPolicy::kStrict;
  container.config.resources.unified = {{"memory.low", "1"}};
  container.exit_code = 137;
  container.reason = "OOMKilled";
  container.user = {5, 6, {7, 8}};
  container.cgroup = {"/u", {{"memory", "/m"}}};
  return container;
}

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = sys::TempDir::create();
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(folder).value());
    reopen();
  }
  void reopen() {
    store_.reset();
    auto store = Store::open(path());
    ASSERT_TRUE(store.ok()) << store.error().message();
    store_ = std::move(store).value();
  }
  std::string path() const { return folder_->path() + "/engine.db"; }
  void damage(const std::string& sql) const {
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open(path().c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  }

  std::optional<sys::TempDir> folder_;
  std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, KeepsEveryFieldOverAReopen) {
  ASSERT_TRUE(store_->put(full_sandbox()).ok());
  ASSERT_TRUE(store_->put(full_container()).ok());
  reopen();
  const auto loaded = store_->load();
  ASSERT_TRUE(loaded.ok());
  ASSERT_EQ(loaded->sandboxes.size(), 1U);
  ASSERT_EQ(loaded->containers.size(), 1U);
  EXPECT_EQ(loaded->sandboxes[0], full_sandbox());
  EXPECT_EQ(loaded->containers[0], full_container());
  EXPECT_TRUE(loaded->broken.empty());
}

TEST_F(StoreTest, PutReplacesAndEraseForgets) {
  Sandbox sandbox = full_sandbox();
  ASSERT_TRUE(store_->put(sandbox).ok());
  sandbox.state = SandboxState::kNotReady;
  ASSERT_TRUE(store_->put(sandbox).ok());
  EXPECT_EQ(store_->load()->sandboxes.at(0).state, SandboxState::kNotReady);
  ASSERT_TRUE(store_->erase_sandbox(sandbox.id).ok());
  ASSERT_TRUE(store_->erase_sandbox(sandbox.id).ok());
  EXPECT_TRUE(store_->load()->sandboxes.empty());
}

TEST_F(StoreTest, ABrokenRecordIsSetAsideAndTheOthersLoad) {
  ASSERT_TRUE(store_->put(full_sandbox()).ok());
  damage(
      "INSERT INTO sandbox VALUES ('bad', '{\"id\": 7}'), ('worse', x'00ff'), ('alias', "
      "'{\"id\": \"other\"}')");
  reopen();
  for (int start = 0; start < 2; ++start) {  // at the next start it is still known, once
    const auto loaded = store_->load();
    ASSERT_TRUE(loaded.ok());
    EXPECT_EQ(loaded->sandboxes.size(), 1U);
    ASSERT_EQ(loaded->broken.size(), 3U);
    EXPECT_EQ(loaded->broken[1].id, "bad");
    EXPECT_EQ(loaded->broken[1].kind, "sandbox");
    EXPECT_FALSE(loaded->broken[1].reason.empty());
  }
}

TEST_F(StoreTest, ABrokenRecordIsKnownWhereNothingCanBeWrittenToo) {
  ASSERT_TRUE(store_->put(full_sandbox()).ok());
  damage(
      "INSERT INTO sandbox VALUES ('bad', '{');"
      "CREATE TRIGGER full BEFORE INSERT ON broken BEGIN SELECT RAISE(ABORT, 'full'); END");
  for (int start = 0; start < 2; ++start) {
    reopen();
    const auto loaded = store_->load();
    ASSERT_TRUE(loaded.ok()) << loaded.error().message();
    EXPECT_EQ(loaded->sandboxes.size(), 1U);
    ASSERT_EQ(loaded->broken.size(), 1U);
    EXPECT_EQ(loaded->broken[0].id, "bad");
  }
  // Of one that is in both places, one is told.
  damage(
      "DROP TRIGGER full; INSERT INTO broken VALUES ('sandbox', 'bad', '{', 'before', '');"
      "CREATE TRIGGER full BEFORE INSERT ON broken BEGIN SELECT RAISE(ABORT, 'full'); END");
  EXPECT_EQ(store_->load()->broken.size(), 1U);
  // Forgotten, it does not come back.
  ASSERT_TRUE(store_->erase_broken({"sandbox", "bad", ""}).ok());
  EXPECT_TRUE(store_->load()->broken.empty());
}

TEST(Records, FieldsOfAnotherReleaseDoNoHarm) {
  const auto sandbox = parse_sandbox_record(R"({"id": "5a", "colour": "blue"})");
  ASSERT_TRUE(sandbox.ok());
  EXPECT_EQ(sandbox->id, "5a");
  EXPECT_EQ(parse_container_record("{}").error().code(), Code::kDataLoss);
}

}  // namespace
}  // namespace fluyt::engine
