#include "engine/engine.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "base/strings.h"
#include "engine/core.h"
#include "engine/finding.h"
#include "engine/root_names.h"
#include "engine/selinux.h"
#include "engine/testing/fakes.h"
#include "monitor/protocol/state_folder.h"
#include "oci/runtime_spec.h"
#include "sys/file.h"
#include "sys/process.h"

/// The verbs over fakes of images, network and monitors. Sandboxes here are on the host's network
/// and IPC, so that nothing is mounted: the rest is what tests/walks are for.
namespace fluyt::engine {
namespace {

using namespace testing;

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = sys::TempDir::create();
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(folder).value());
    restart();
  }
  void restart() {
    engine_.reset();
    auto engine = open();
    ASSERT_TRUE(engine.ok()) << engine.error().message();
    engine_ = std::move(engine).value();
  }
  Result<std::unique_ptr<Engine>> open() {
    return Engine::open({.root = folder_->path() + "/root", .state = folder_->path() + "/state"},
                        testing::parts_over(world_), logger_);
  }
  // What happens to the records while no engine is there.
  void change_database(const std::string& sql) {
    engine_.reset();
    sqlite3* database = nullptr;
    ASSERT_EQ(sqlite3_open((folder_->path() + "/root/engine.db").c_str(), &database), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(database);
  }
  static SandboxConfig pod(const std::string& name = "pod") {
    SandboxConfig config;
    config.name = {name, "default", "uid-" + name, 0};
    config.namespaces.network = NamespaceMode::kNode;
    config.namespaces.ipc = NamespaceMode::kNode;
    config.namespaces.pid = NamespaceMode::kContainer;
    return config;
  }
  static ContainerConfig main_container() {
    ContainerConfig config;
    config.name = {"main", 0};
    config.image = "busybox";
    return config;
  }
  std::string running() { return running(pod()); }
  std::string running(const SandboxConfig& config) {
    sandbox_ = *engine_->run_sandbox(config, "");
    const auto id = engine_->create_container(sandbox_, main_container());
    EXPECT_TRUE(id.ok()) << id.error().message();
    const auto started = engine_->start_container(*id);
    EXPECT_TRUE(started.ok()) << started.error().message();
    return *id;
  }
  // In a sandbox of its own, as of fluyt run; another container keeps it.
  std::string running_beside_another() {
    SandboxConfig config = pod();
    config.annotations["dev.fluyt.sandbox-lifetime"] = "containers";
    sandbox_ = *engine_->run_sandbox(config, "");
    ContainerConfig other = main_container();
    other.name.name = "other";
    EXPECT_TRUE(engine_->create_container(sandbox_, other).ok());
    const std::string id = *engine_->create_container(sandbox_, main_container());
    EXPECT_TRUE(engine_->start_container(id).ok());
    return id;
  }
  static std::vector<std::string> host_lacks() { return probe_host().lacks; }
  bool eventually(const std::function<bool()>& holds) const {
    for (int i = 0; i < 1000 && !holds(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return holds();
  }
  std::vector<std::string> left_in_state() const {
    return *sys::list_dir(folder_->path() + "/state/sandboxes");
  }

  NullLogger logger_;
  FakeWorld world_;
  std::optional<sys::TempDir> folder_;
  std::unique_ptr<Engine> engine_;
  std::string sandbox_;
};

TEST_F(EngineTest, WalksAPodFromRunToRemove) {
  const std::string id = running();
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
  EXPECT_EQ((*engine_->get_container(id))->image_id, "sha256:0123");
  EXPECT_EQ((*engine_->get_container(id.substr(0, 8)))->id, id);
  ASSERT_TRUE(engine_->stop_sandbox(sandbox_).ok());
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 137);
  ASSERT_TRUE(engine_->remove_sandbox(sandbox_).ok());
  EXPECT_TRUE(engine_->list_sandboxes({}).empty());
  EXPECT_TRUE(engine_->list_containers({}).empty());
  EXPECT_TRUE(world_.roots.empty());
  EXPECT_TRUE(world_.monitors.empty());
  EXPECT_TRUE(left_in_state().empty());
}

// A host with SELinux, as far as its files say it: whatever label is known there.
class SelinuxTest : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    places_ = {.selinuxfs = folder_->path() + "/selinuxfs",
               .policies = folder_->path() + "/policies",
               .contexts = folder_->path() + "/contexts"};
    ASSERT_TRUE(sys::make_dirs(places_.policies + "/own/contexts", 0755).ok());
    ASSERT_TRUE(sys::make_dirs(places_.selinuxfs, 0755).ok());
    write(places_.policies + "/config", "SELINUX=enforcing\nSELINUXTYPE=own\n");
    write(places_.policies + "/own/contexts/lxc_contexts",
          "process = \"system_u:system_r:box_t:s0\"\nfile = \"system_u:object_r:box_file_t:s0\"\n");
    write(places_.selinuxfs + "/enforce", "1");
    write(places_.selinuxfs + "/context", "");
    change([&](Options& options) { options.selinux_places = places_; });
  }
  static void write(const std::string& path, const std::string& text) {
    ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, path, text, 0600).ok()) << path;
  }
  void change(const std::function<void(Options&)>& how) {
    Options options = engine_->options();
    how(options);
    auto ready = engine_->prepare(options);
    ASSERT_TRUE(ready.ok()) << ready.error().message();
    (*ready)();
  }
  SandboxPtr made(const SandboxConfig& config) {
    const auto id = engine_->run_sandbox(config, "");
    EXPECT_TRUE(id.ok()) << id.error().message();
    return id.ok() ? *engine_->get_sandbox(*id) : nullptr;
  }
  // Its process among the host's IPC objects has a label where somebody chose it.
  static SandboxConfig pod_with(const SelinuxOptions& options, const std::string& name = "pod") {
    SandboxConfig config = pod(name);
    config.selinux = options;
    return config;
  }
  oci::Spec spec_of(const std::string& sandbox, const ContainerConfig& config) {
    const auto id = engine_->create_container(sandbox, config);
    EXPECT_TRUE(id.ok()) << id.error().message();
    return id.ok() ? *oci::parse_spec(world_.specs.at(*id)) : oci::Spec{};
  }
  SelinuxPlaces places_;
};

TEST_F(SelinuxTest, EachPodHasALevelOfItsOwnAndKeepsIt) {
  std::map<std::string, std::string> labels;
  std::set<std::string> levels;
  for (const char* name : {"a", "b", "c"}) {
    const SandboxPtr one = made(pod(name));
    EXPECT_TRUE(one->process_label.starts_with("system_u:system_r:box_t:s0:c"))
        << one->process_label;
    EXPECT_TRUE(levels.insert(one->process_label.substr(24)).second);
    EXPECT_EQ(one->file_label, cat("system_u:object_r:box_file_t:", one->process_label.substr(24)));
    labels[one->id] = one->process_label;
  }
  restart();
  for (const auto& [id, label] : labels)
    EXPECT_EQ((*engine_->get_sandbox(id))->process_label, label);
}

TEST_F(SelinuxTest, ARecordedPodsLevelIsNobodyElses) {
  McsLevels levels;
  Sandbox recorded;
  recorded.file_label = "system_u:object_r:container_file_t:s0:c0,c1";
  const auto hold = hold_level(levels, recorded.file_label);
  EXPECT_EQ(levels.take(0)->level(), "s0:c0,c2");
  EXPECT_EQ(hold_level(levels, "").level(), "");
}

TEST_F(SelinuxTest, APodsCallerMayChoose) {
  EXPECT_EQ(made(pod_with({{}, {}, "spc_t", "s0:c7,c9"}, "a"))->process_label,
            "system_u:system_r:spc_t:s0:c7,c9");
  EXPECT_EQ(made(pod_with({{}, {}, {}, "s0:c7,c9"}, "b"))->process_label,
            "system_u:system_r:box_t:s0:c7,c9");  // two pods that share
  const auto wrong = engine_->run_sandbox(pod_with({{}, {}, {}, "s0,c1"}, "c"), "");
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().message().find("linux.security_context.selinux_options: level: "), 0U);
}

TEST_F(SelinuxTest, AContainerHasThePodsLabelsAndSoDoItsFiles) {
  const SandboxPtr one = made(pod_with({{}, {}, "other_t", {}}));
  ContainerConfig config = main_container();
  config.mounts.resize(3);
  config.mounts[0] = {.container_path = "/a", .host_path = "/volume", .selinux_relabel = true};
  config.mounts[1] = {.container_path = "/b", .host_path = "/kept"};
  config.mounts[2] = {.container_path = "/c", .readonly = true, .image = "busybox"};
  const oci::Spec spec = spec_of(one->id, config);
  EXPECT_EQ(spec.process->selinux_label, one->process_label);
  EXPECT_EQ(spec.linux_->mount_label, one->file_label);
  EXPECT_EQ(world_.root.label, one->file_label);
  ASSERT_EQ(world_.trees.size(), 1U);
  EXPECT_EQ(world_.trees.begin()->second.label, one->file_label);
  std::vector<std::string> paths;
  for (const auto& relabel : world_.relabels) {
    EXPECT_EQ(relabel.label, one->file_label);
    paths.push_back(relabel.path);
  }
  const std::string folder = cat(folder_->path(), "/state/sandboxes/", one->id);
  EXPECT_EQ(paths, (std::vector<std::string>{folder + "/resolv.conf", folder + "/hosts",
                                             folder + "/hostname", "/volume"}));
  EXPECT_EQ(world_.relabels.back().what, "mounts[0].selinux_relabel");
  for (const auto& relabel : world_.relabels)
    EXPECT_EQ(relabel.of_caller, relabel.path == "/volume") << relabel.path;
}

TEST_F(SelinuxTest, WithoutLabelsNothingIsRelabelled) {
  change([](Options& options) { options.selinux = false; });
  const SandboxPtr one = made(pod_with({{}, {}, "other_t", {}}));
  EXPECT_EQ(one->process_label, "");
  ContainerConfig config = main_container();
  config.mounts = {{.container_path = "/a", .host_path = "/volume", .selinux_relabel = true}};
  const oci::Spec spec = spec_of(one->id, config);
  EXPECT_EQ(spec.process->selinux_label, "");
  EXPECT_EQ(spec.linux_->mount_label, "");
  EXPECT_TRUE(world_.root.label.empty());
  EXPECT_TRUE(world_.relabels.empty());
}

// A root that is no mount has no label to show: its files get it.
TEST_F(SelinuxTest, ACopiedRootIsRelabelled) {
  const SandboxPtr one = made(pod_with({{}, {}, "other_t", {}}));
  world_.copied_roots = true;
  spec_of(one->id, main_container());
  EXPECT_EQ(world_.root.label, "");
  ASSERT_FALSE(world_.relabels.empty());
  EXPECT_EQ(world_.relabels.front(), (monitor::Relabel{world_.upper, one->file_label, "root"}));
}

// Two ways to write a level are one level: the kernel says which.
TEST_F(SelinuxTest, ALevelIsAsTheKernelWritesIt) {
  places_.canonical = [](const std::string& label) -> Result<std::string> {
    return label.ends_with("s0:c2,c1") ? label.substr(0, label.size() - 5) + "c1,c2" : label;
  };
  change([&](Options& options) { options.selinux_places = places_; });
  const SandboxPtr one = made(pod_with({{}, {}, {}, "s0:c2,c1"}));
  EXPECT_EQ(one->process_label, "system_u:system_r:box_t:s0:c1,c2");
  EXPECT_EQ(one->file_label, "system_u:object_r:box_file_t:s0:c1,c2");
  ContainerConfig config = main_container();
  config.security.selinux = SelinuxOptions{{}, {}, "other_t", "s0:c2,c1"};
  const oci::Spec spec = spec_of(one->id, config);
  EXPECT_EQ(spec.process->selinux_label, "system_u:system_r:other_t:s0:c1,c2");
  EXPECT_EQ(spec.linux_->mount_label, "system_u:object_r:box_file_t:s0:c1,c2");
}

TEST_F(SelinuxTest, WhatTheTransactionFileGivesBackIsTheLabel) {
  write(places_.selinuxfs + "/context", std::string(200, 'x'));
  EXPECT_EQ(*canonical_label(places_, "u:r:t:s0"), "u:r:t:s0");
}

TEST_F(SelinuxTest, AChosenLevelIsHeldAsTheKernelWritesIt) {
  places_.canonical = [](const std::string& label) -> Result<std::string> {
    return label.ends_with("s0:c1,c0") ? label.substr(0, label.size() - 5) + "c0,c1" : label;
  };
  change([&](Options& options) { options.selinux_places = places_; });
  McsLevels levels;
  Sandbox chosen;
  chosen.config = pod_with({{}, {}, {}, "s0:c1,c0"});
  const auto hold = label_sandbox(engine_->options(), levels, logger_, chosen);
  ASSERT_TRUE(hold.ok()) << hold.error().message();
  EXPECT_EQ(hold->level(), "s0:c0,c1");
  EXPECT_EQ(levels.take(0)->level(), "s0:c0,c2");
}

TEST_F(SelinuxTest, AContainersOwnLevelIsOnRecord) {
  const SandboxPtr one = made(pod("a"));
  ContainerConfig config = main_container();
  config.security.selinux = SelinuxOptions{{}, {}, {}, "s0:c7,c9"};
  const auto id = engine_->create_container(one->id, config);
  ASSERT_TRUE(id.ok()) << id.error().message();
  EXPECT_EQ((*engine_->get_container(*id))->file_label, "system_u:object_r:box_file_t:s0:c7,c9");
  restart();
  EXPECT_EQ((*engine_->get_container(*id))->file_label, "system_u:object_r:box_file_t:s0:c7,c9");
}

// A pod whose programs are confined by nothing is not what comes of a broken file.
TEST_F(SelinuxTest, APolicyThatCannotBeReadMakesNoPods) {
  const auto why = [&](const std::string& name) {
    const auto refused = engine_->run_sandbox(pod(name), "");
    EXPECT_FALSE(refused.ok()) << name;
    return refused.ok() ? std::string() : refused.error().message();
  };
  const std::string own = places_.policies + "/own/contexts/lxc_contexts";
  write(own, "process = \"nothing\"\n");
  EXPECT_EQ(why("malformed").find(cat("SELinux: ", own, ": process: \"nothing\"")), 0U);
  ASSERT_TRUE(sys::make_dirs(places_.contexts, 0755).ok());
  EXPECT_EQ(why("a folder").find("SELinux: "), 0U);
  ASSERT_EQ(::rmdir(places_.contexts.c_str()), 0);
  write(own, "");
  ASSERT_EQ(::unlink((places_.selinuxfs + "/context").c_str()), 0);
  EXPECT_EQ(why("no context").find("SELinux: "), 0U);
  change([&](Options& options) { options.selinux = false; });
  EXPECT_EQ(made(pod("without"))->process_label, "");
}

TEST_F(SelinuxTest, APolicyWithoutContainersIsToldAndAsksForNothing) {
  places_.canonical = [](const std::string& label) -> Result<std::string> {
    return Error(Code::kInvalidArgument, cat(label, ": not known"));
  };
  change([&](Options& options) { options.selinux_places = places_; });
  struct Told : Logger {
    bool enabled(LogLevel) const override { return true; }
    void write(LogLevel level, std::string_view text) override {
      if (level == LogLevel::kWarn) said.append(text);
    }
    std::string said;
  } told;
  McsLevels levels;
  Sandbox silent;
  silent.id = "one";
  silent.config = pod("a");
  EXPECT_TRUE(label_sandbox(engine_->options(), levels, told, silent).ok());
  EXPECT_EQ(told.said.find("sandbox one has no labels: this host lacks an SELinux policy"), 0U)
      << told.said;
  EXPECT_EQ(made(pod("a"))->process_label, "");
  const auto refused = engine_->run_sandbox(pod_with({{}, {}, "spc_t", {}}, "b"), "");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kFailedPrecondition);
  EXPECT_NE(refused.error().message().find("this host lacks an SELinux policy for containers"),
            std::string::npos);
}

TEST_F(EngineTest, OtherOptionsHoldForWhatBeginsAfterThem) {
  const auto handler = [](const std::string& name) {
    return RuntimeHandler{.name = name, .path = "/bin/true"};
  };
  EXPECT_FALSE(engine_->check_runtime_handler("one").ok());
  Options options = engine_->options();
  options.handlers = {handler("one")};
  options.default_handler = "one";
  options.root = "/somewhere/else";
  auto ready = engine_->prepare(options);
  ASSERT_TRUE(ready.ok()) << ready.error().message();
  EXPECT_FALSE(engine_->check_runtime_handler("one").ok());  // not yet
  const std::string old = running();
  (*ready)();
  EXPECT_TRUE(engine_->check_runtime_handler("one").ok());
  EXPECT_EQ(engine_->options().root, folder_->path() + "/root");
  const std::string fresh = *engine_->run_sandbox(pod("fresh"), "");
  EXPECT_EQ((*engine_->get_sandbox(fresh))->handler, "one");
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->handler, "runf");
  EXPECT_EQ(engine_->count_monitors(), 2U);

  // A handler that is no more: its pods go on, and go.
  options.handlers = {};
  options.default_handler = "runf";
  (*engine_->prepare(options))();
  EXPECT_FALSE(engine_->check_runtime_handler("one").ok());
  EXPECT_EQ(engine_->create_container(fresh, main_container()).error().code(),
            Code::kFailedPrecondition);
  EXPECT_TRUE(engine_->remove_sandbox(fresh).ok());
  EXPECT_EQ((*engine_->get_container(old))->state, ContainerState::kRunning);

  options.default_handler = "two";
  EXPECT_FALSE(engine_->prepare(options).ok());
  EXPECT_TRUE(engine_->check_runtime_handler("").ok());
}

TEST_F(EngineTest, ADetachThatFailsIsOwedUntilItSucceeds) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to enter a network namespace";
  world_.netns = "/proc/self/ns/net";
  const auto collected = [&](int wanted) {
    for (int i = 0; i < 500; ++i) {
      {
        const std::scoped_lock lock(world_.mutex);
        if (world_.collects >= wanted) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  };
  ASSERT_TRUE(collected(1));
  SandboxConfig config = pod();
  config.namespaces.network = NamespaceMode::kPod;
  const auto made = engine_->run_sandbox(config, "");
  ASSERT_TRUE(made.ok()) << made.error().message();
  // One stop, one remove and one start that fail, and the start that does not.
  world_.failing_detaches = 3;
  const auto stopped = engine_->stop_sandbox(*made);
  ASSERT_FALSE(stopped.ok());
  EXPECT_NE(stopped.error().message().find("still to be detached"), std::string::npos);
  EXPECT_EQ((*engine_->get_sandbox(*made))->state, SandboxState::kNotReady);
  EXPECT_TRUE(world_.monitors.contains(*made)) << "DEL needs the namespace";
  EXPECT_FALSE(engine_->remove_sandbox(*made).ok());
  EXPECT_EQ(engine_->list_sandboxes({}).size(), 1U);
  restart();
  ASSERT_TRUE(collected(2));
  EXPECT_EQ(world_.failing_detaches, 0);
  EXPECT_TRUE((*engine_->get_sandbox(*made))->network_attached);
  restart();
  ASSERT_TRUE(collected(3));
  EXPECT_FALSE((*engine_->get_sandbox(*made))->network_attached);
  EXPECT_TRUE(world_.attached.empty());
  EXPECT_TRUE(world_.left_over.empty()) << "a sandbox that is owed a DEL is known";
  EXPECT_TRUE(world_.monitors.empty());
  EXPECT_TRUE(engine_->remove_sandbox(*made).ok());
  EXPECT_TRUE(left_in_state().empty());
  world_.attached.insert("of-no-sandbox");
  restart();
  ASSERT_TRUE(collected(4));
  EXPECT_EQ(world_.left_over, std::vector<std::string>{"of-no-sandbox"});
}

TEST_F(EngineTest, AHalfDoneStopIsFinishedByTheNextStart) {
  const auto made = engine_->run_sandbox(pod(), "");
  ASSERT_TRUE(made.ok()) << made.error().message();
  engine_.reset();
  {
    const auto store = Store::open(folder_->path() + "/root/engine.db");
    ASSERT_TRUE(store.ok());
    auto loaded = (*store)->load();
    ASSERT_TRUE(loaded.ok() && loaded->sandboxes.size() == 1);
    ASSERT_EQ(loaded->sandboxes[0].state, SandboxState::kReady);
    loaded->sandboxes[0].reason = "Stopping";
    ASSERT_TRUE((*store)->put(loaded->sandboxes[0]).ok());
  }
  restart();
  const auto shown = engine_->get_sandbox(*made);
  ASSERT_TRUE(shown.ok()) << shown.error().message();
  EXPECT_EQ((*shown)->state, SandboxState::kNotReady);
  EXPECT_EQ((*shown)->reason, "");
  EXPECT_TRUE(world_.monitors.empty());
  EXPECT_TRUE(left_in_state().empty());
}

// What a stop leaves on record while it takes things away.
TEST_F(EngineTest, AStopIsOnRecordBeforeTheNetworkGoes) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to enter a network namespace";
  world_.netns = "/proc/self/ns/net";
  SandboxConfig config = pod();
  config.namespaces.network = NamespaceMode::kPod;
  const auto made = engine_->run_sandbox(config, "");
  ASSERT_TRUE(made.ok()) << made.error().message();
  std::string reason;
  world_.at_detach = [&] { reason = (*engine_->get_sandbox(*made))->reason; };
  ASSERT_TRUE(engine_->stop_sandbox(*made).ok());
  EXPECT_EQ(reason, "Stopping");
  EXPECT_EQ((*engine_->get_sandbox(*made))->reason, "");
}

TEST_F(EngineTest, AHalfDoneCreateThatCannotBeUndoneIsShown) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to enter a network namespace";
  world_.netns = "/proc/self/ns/net";
  SandboxConfig config = pod();
  config.namespaces.network = NamespaceMode::kPod;
  const auto made = engine_->run_sandbox(config, "");
  ASSERT_TRUE(made.ok()) << made.error().message();
  engine_.reset();
  {
    const auto store = Store::open(folder_->path() + "/root/engine.db");
    ASSERT_TRUE(store.ok());
    auto loaded = (*store)->load();
    ASSERT_TRUE(loaded.ok() && loaded->sandboxes.size() == 1);
    loaded->sandboxes[0].state = SandboxState::kCreating;
    ASSERT_TRUE((*store)->put(loaded->sandboxes[0]).ok());
  }
  world_.failing_detaches = 1;
  restart();
  const auto shown = engine_->get_sandbox(*made);
  ASSERT_TRUE(shown.ok()) << shown.error().message();
  EXPECT_EQ((*shown)->state, SandboxState::kNotReady);
  EXPECT_NE((*shown)->reason.find("plugin hangs"), std::string::npos);
  EXPECT_TRUE(engine_->remove_sandbox(*made).ok());
  EXPECT_TRUE(world_.attached.empty());
}

// fluytd was killed between the sandbox's end and those of its containers.
TEST_F(EngineTest, AHalfDoneStopHearsOfEndsThatWereTold) {
  const std::string id = running();
  engine_.reset();
  {
    const auto store = Store::open(folder_->path() + "/root/engine.db");
    ASSERT_TRUE(store.ok());
    auto loaded = (*store)->load();
    ASSERT_TRUE(loaded.ok() && loaded->sandboxes.size() == 1);
    loaded->sandboxes[0].state = SandboxState::kNotReady;
    ASSERT_TRUE((*store)->put(loaded->sandboxes[0]).ok());
  }
  world_.containers[id].state = monitor::ContainerState::kExited;
  world_.containers[id].exit_code = 3;
  const auto began = std::chrono::steady_clock::now();
  restart();
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited);
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 3);
  EXPECT_TRUE(engine_->stop_sandbox(sandbox_).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  EXPECT_TRUE(world_.monitors.empty());
}

TEST_F(EngineTest, AContainerThatHasExitedIsCreatedAgain) {
  const std::string id = running_beside_another();
  EXPECT_EQ(engine_->recreate_container(id).error().code(), Code::kFailedPrecondition);
  ASSERT_TRUE(engine_->stop_container(id, 0).ok());
  ASSERT_EQ((*engine_->get_container(id))->exit_code, 137);
  const auto again = engine_->recreate_container(id);
  ASSERT_TRUE(again.ok()) << again.error().message();
  const ContainerPtr made = *engine_->get_container(id);
  EXPECT_EQ(made->state, ContainerState::kCreated);
  EXPECT_EQ(std::tuple(made->exit_code, made->finished_at, made->reason), std::tuple(0, 0, ""));
  EXPECT_TRUE(world_.roots.contains(id));
  ASSERT_TRUE(engine_->start_container(id).ok());
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
  ASSERT_TRUE(engine_->stop_container(id, 0).ok());
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited) << "it is told of again";
}

TEST_F(EngineTest, ASandboxThatHasStoppedIsMadeReadyForIt) {
  const std::string id = running_beside_another();
  ASSERT_TRUE(engine_->stop_sandbox(sandbox_).ok());
  ASSERT_TRUE(engine_->recreate_container(id).ok());
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kReady);
  EXPECT_EQ(world_.monitors.size(), 1U);
  ASSERT_TRUE(engine_->start_container(id).ok());
  restart();
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning) << "as any other";
  ASSERT_TRUE(engine_->remove_sandbox(sandbox_).ok());
  EXPECT_TRUE(world_.roots.empty());
  EXPECT_TRUE(left_in_state().empty());
}

TEST_F(EngineTest, WhatCannotBeMadeAgainIsAsItWas) {
  const std::string id = running_beside_another();
  ASSERT_TRUE(engine_->stop_container(id, 0).ok());
  for (const bool stopped : {false, true}) {
    if (stopped) {
      ASSERT_TRUE(engine_->stop_sandbox(sandbox_).ok());
    }
    for (const char* call : {"create", "create_root", "admit", stopped ? "launch" : "create"}) {
      world_.fail = call;
      EXPECT_FALSE(engine_->recreate_container(id).ok()) << call;
      EXPECT_EQ((*engine_->get_container(id))->exit_code, 137) << call;
      EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited) << call;
      EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state == SandboxState::kReady, !stopped) << call;
      EXPECT_EQ(world_.monitors.size(), stopped ? 0U : 1U) << call;
      EXPECT_TRUE(world_.roots.contains(id)) << call;
    }
  }
  world_.fail = "";
  EXPECT_TRUE(engine_->recreate_container(id).ok());
}

// Killed at its gate, before its create is on record.
TEST_F(EngineTest, AnExitWhileItIsMadeAgainIsNotMissed) {
  const std::string id = running_beside_another();
  ASSERT_TRUE(engine_->stop_container(id, 0).ok());
  world_.at_create = [&](const std::string& made) {
    monitor::ContainerInfo info;
    info.id = made;
    info.state = monitor::ContainerState::kExited;
    info.exit_code = 9;
    info.finished_at = 1;
    world_.events.container_changed(info);
  };
  ASSERT_TRUE(engine_->recreate_container(id).ok());
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited);
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 9);
}

TEST_F(EngineTest, WhatAKubeletHasIsNotMadeAgain) {
  const std::string id = running();
  ASSERT_TRUE(engine_->stop_container(id, 0).ok());
  const auto again = engine_->recreate_container(id);
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), Code::kFailedPrecondition);
  EXPECT_NE(again.error().message().find("such as a kubelet"), std::string::npos);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited);
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kReady);
}

TEST_F(EngineTest, AnExitToldLateIsNotThatOfTheOneMadeAgain) {
  const std::string id = running_beside_another();
  ASSERT_TRUE(engine_->stop_container(id, 0).ok());
  const monitor::ContainerInfo old = world_.containers.at(id);
  world_.at_create = [&](const std::string&) { world_.events.container_changed(old); };
  ASSERT_TRUE(engine_->recreate_container(id).ok());
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kCreated);
  world_.events.container_changed(old);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kCreated);
  ASSERT_TRUE(engine_->start_container(id).ok());
  world_.events.container_changed(old);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
}

// A stop that has missed the exit asks for it, and somebody else is faster.
TEST_F(EngineTest, AStopEndsWithTheContainerThatItIsAboutAndLeavesTheOneMadeAgain) {
  for (const bool listed : {true, false}) {
    const std::string id = running_beside_another();
    {
      const std::scoped_lock lock(world_.mutex);
      auto& info = world_.containers.at(id);
      info.state = monitor::ContainerState::kExited;
      info.exit_code = 3;
      info.finished_at = now_unix_ns();
    }
    world_.at_list = [&] {
      world_.at_list = nullptr;
      world_.events.container_changed(world_.containers.at(id));
      EXPECT_TRUE(engine_->recreate_container(id).ok());
    };
    world_.lists_nothing = !listed;
    const auto began = std::chrono::steady_clock::now();
    EXPECT_TRUE(engine_->stop_container(id, 0).ok()) << listed;
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(8));
    EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kCreated) << listed;
    world_.lists_nothing = false;
    ASSERT_TRUE(engine_->remove_sandbox(sandbox_).ok());
  }
}

TEST_F(EngineTest, ASandboxEndsWithItsContainersWhereItsCallerSaysSo) {
  SandboxConfig config = pod();
  config.annotations["dev.fluyt.sandbox-lifetime"] = "for ever";
  EXPECT_EQ(engine_->run_sandbox(config, "").error().code(), Code::kInvalidArgument);
  config.annotations["dev.fluyt.sandbox-lifetime"] = "containers";
  sandbox_ = *engine_->run_sandbox(config, "");
  const std::string first = *engine_->create_container(sandbox_, main_container());
  ContainerConfig other = main_container();
  other.name.name = "other";
  const std::string second = *engine_->create_container(sandbox_, other);
  ASSERT_TRUE(engine_->start_container(first).ok());
  ASSERT_TRUE(engine_->stop_container(first, 0).ok());
  ASSERT_TRUE(engine_->recreate_container(first).ok()) << "the other one keeps it";
  ASSERT_TRUE(engine_->stop_container(first, 0).ok());
  ASSERT_TRUE(engine_->stop_container(second, 0).ok());
  const auto state = [&] { return (*engine_->get_sandbox(sandbox_))->state; };
  EXPECT_TRUE(eventually([&] { return state() == SandboxState::kNotReady; }));
  EXPECT_TRUE(eventually([&] { return world_.monitors.empty(); }));
  EXPECT_TRUE(world_.roots.contains(first));
}

TEST_F(EngineTest, ASandboxGoesWithItsContainersAndTheirLogs) {
  engine_.reset();
  const std::string logs = folder_->path() + "/logs";
  ASSERT_TRUE(sys::make_dirs(logs + "/one", 0755).ok());
  ASSERT_TRUE(sys::make_dirs(folder_->path() + "/elsewhere", 0755).ok());
  auto engine = Engine::open(
      {.root = folder_->path() + "/root", .state = folder_->path() + "/state", .logs = logs},
      testing::parts_over(world_), logger_);
  ASSERT_TRUE(engine.ok()) << engine.error().message();
  engine_ = std::move(engine).value();
  for (const std::string& folder : {logs + "/one", folder_->path() + "/elsewhere", logs + "/.."}) {
    SandboxConfig config = pod();
    config.log_directory = folder;
    config.annotations["dev.fluyt.sandbox-lifetime"] = "containers-and-gone";
    sandbox_ = *engine_->run_sandbox(config, "");
    const std::string id = *engine_->create_container(sandbox_, main_container());
    const auto exit = engine_->watch_exit(id).value();
    ASSERT_TRUE(engine_->start_container(id).ok());
    ASSERT_TRUE(engine_->signal_container(id, 9).ok());
    EXPECT_EQ(exit(Deadline::after_ms(5'000))->exit_code, 137) << "known though it goes";
    EXPECT_TRUE(eventually([&] { return engine_->list_sandboxes({}).empty(); })) << folder;
    EXPECT_TRUE(eventually([&] { return world_.roots.empty(); }));
    EXPECT_TRUE(eventually([&] { return !sys::exists(logs + "/one"); })) << folder;
  }
  EXPECT_TRUE(sys::exists(folder_->path() + "/elsewhere")) << "not ours";
  EXPECT_TRUE(sys::exists(logs));
}

// fluytd was away when it ended.
TEST_F(EngineTest, ASandboxThatShouldHaveEndedEndsWithTheNextStart) {
  SandboxConfig config = pod();
  config.annotations["dev.fluyt.sandbox-lifetime"] = "containers-and-gone";
  const std::string id = running(config);
  engine_.reset();
  world_.containers[id].state = monitor::ContainerState::kExited;
  restart();
  EXPECT_TRUE(eventually([&] { return engine_->list_sandboxes({}).empty(); }));
}

TEST_F(EngineTest, ASandboxWhoseEndFailsIsEndedAgain) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to enter a network namespace";
  world_.netns = "/proc/self/ns/net";
  for (const char* lifetime : {"containers", "containers-and-gone"}) {
    SandboxConfig config = pod(lifetime);
    config.namespaces.network = NamespaceMode::kPod;
    config.annotations["dev.fluyt.sandbox-lifetime"] = lifetime;
    sandbox_ = *engine_->run_sandbox(config, "");
    const std::string id = *engine_->create_container(sandbox_, main_container());
    ASSERT_TRUE(engine_->start_container(id).ok());
    world_.failing_detaches = 2;
    ASSERT_TRUE(engine_->signal_container(id, 9).ok());
    EXPECT_TRUE(eventually([&] {
      const std::scoped_lock lock(world_.mutex);
      return world_.attached.empty() && world_.monitors.empty();
    })) << lifetime;
    EXPECT_EQ(world_.failing_detaches, 0);
  }
  EXPECT_TRUE(eventually([&] { return engine_->list_sandboxes({}).size() == 1; }));
}

// The record is what is looked for to try again, and nothing else names them.
TEST_F(EngineTest, LogsGoBeforeTheRecordThatNamesThem) {
  engine_.reset();
  const std::string logs = folder_->path() + "/logs";
  ASSERT_TRUE(sys::make_dirs(logs + "/one", 0755).ok());
  auto engine = Engine::open(
      {.root = folder_->path() + "/root", .state = folder_->path() + "/state", .logs = logs},
      testing::parts_over(world_), logger_);
  ASSERT_TRUE(engine.ok()) << engine.error().message();
  engine_ = std::move(engine).value();
  SandboxConfig config = pod();
  config.log_directory = logs + "/one";
  config.annotations["dev.fluyt.sandbox-lifetime"] = "containers-and-gone";
  sandbox_ = *engine_->run_sandbox(config, "");
  const std::string id = *engine_->create_container(sandbox_, main_container());
  ASSERT_TRUE(engine_->start_container(id).ok());
  world_.fail = "remove_root";
  ASSERT_TRUE(engine_->signal_container(id, 9).ok());
  EXPECT_TRUE(eventually([&] { return !sys::exists(logs + "/one"); }));
  EXPECT_EQ(engine_->list_sandboxes({}).size(), 1U);
}

// Its monitor answers only after the start, and knows nothing of its container.
TEST_F(EngineTest, ASandboxThatIsAdoptedLaterEndsWithContainersThatNobodyKnows) {
  SandboxConfig config = pod();
  config.annotations["dev.fluyt.sandbox-lifetime"] = "containers-and-gone";
  const std::string id = running(config);
  engine_.reset();
  world_.adopts_fail = true;
  world_.lists_nothing = true;
  restart();
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
  world_.adopts_fail = false;
  EXPECT_TRUE(eventually([&] { return engine_->list_sandboxes({}).empty(); }));
}

TEST_F(EngineTest, StopAndRemoveAreIdempotent) {
  const std::string id = running();
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(engine_->stop_container(id, 1000).ok());
    EXPECT_TRUE(engine_->remove_container(id).ok());
    EXPECT_TRUE(engine_->stop_sandbox(sandbox_).ok());
    EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
  }
}

TEST_F(EngineTest, ARepeatedRunJoinsTheFirstAndLaterNamesTheHolder) {
  world_.launch_delay_ms = 100;
  Result<std::string> first = Error(Code::kInternal, "not run");
  std::thread other([&] { first = engine_->run_sandbox(pod(), ""); });
  const auto second = engine_->run_sandbox(pod(), "");
  other.join();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(engine_->list_sandboxes({}).size(), 1U);
  const auto third = engine_->run_sandbox(pod(), "");
  ASSERT_FALSE(third.ok());
  EXPECT_EQ(third.error().code(), Code::kAlreadyExists);
  EXPECT_NE(third.error().message().find(*first), std::string::npos);
}

TEST_F(EngineTest, AFailureUndoesWhatWasMade) {
  for (const char* call : {"launch", "make_sandbox"}) {
    world_.fail = call;
    EXPECT_FALSE(engine_->run_sandbox(pod(), "").ok()) << call;
    EXPECT_TRUE(engine_->list_sandboxes({}).empty()) << call;
    EXPECT_TRUE(world_.monitors.empty()) << call;
    EXPECT_TRUE(left_in_state().empty()) << call;
  }
  world_.fail = "";
  const std::string sandbox = *engine_->run_sandbox(pod(), "");
  for (const char* call : {"create_root", "create"}) {
    world_.fail = call;
    EXPECT_FALSE(engine_->create_container(sandbox, main_container()).ok()) << call;
    EXPECT_TRUE(engine_->list_containers({}).empty()) << call;
    EXPECT_TRUE(world_.roots.empty()) << call;
  }
  world_.fail = "";
  EXPECT_TRUE(engine_->create_container(sandbox, main_container()).ok());
}

TEST_F(EngineTest, UserNamespacesAreRefusedByNameWhereTheyCannotBe) {
  SandboxConfig config = pod();
  config.namespaces.user_ids = UserIds{{0, 100000, 65536}, {0, 100000, 65536}};
  auto refused = engine_->run_sandbox(config, "");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find("ipc: NODE: expected POD"), std::string::npos);
  config.namespaces.ipc = NamespaceMode::kPod;
  config.namespaces.pid = NamespaceMode::kNode;
  refused = engine_->run_sandbox(config, "");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find("pid: NODE: expected POD or CONTAINER"),
            std::string::npos);
  EXPECT_TRUE(engine_->status().user_namespaces);
  EXPECT_TRUE(engine_->status().lacks == host_lacks());

  world_.fail = "probe_ids";
  restart();
  world_.fail = "";
  config.namespaces.pid = NamespaceMode::kPod;
  refused = engine_->run_sandbox(config, "");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kFailedPrecondition);
  EXPECT_NE(refused.error().message().find("probe_ids fails"), std::string::npos);
  EXPECT_FALSE(engine_->status().user_namespaces);
  EXPECT_EQ(engine_->status().lacks.size(), host_lacks().size() + 1);
}

TEST_F(EngineTest, AContainerHasItsSandboxesUserNamespace) {
  const std::string sandbox = *engine_->run_sandbox(pod(), "");
  ContainerConfig config = main_container();
  config.security.namespaces.user_ids = UserIds{{0, 100000, 65536}, {0, 100000, 65536}};
  const auto refused = engine_->create_container(sandbox, config);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find("userns_options: POD: expected what the sandbox"),
            std::string::npos);
  config.security.namespaces.user_ids.reset();
  config.security.namespaces.user = NamespaceMode::kNode;
  EXPECT_TRUE(engine_->create_container(sandbox, config).ok());
}

TEST_F(EngineTest, ImageVolumesAreHeldWhileTheContainerIsThere) {
  const std::string sandbox = *engine_->run_sandbox(pod(), "");
  ContainerConfig config = main_container();
  config.mounts.resize(2);
  config.mounts[0].container_path = config.mounts[0].host_path = "/tmp";
  config.mounts[1].container_path = "/volume";
  config.mounts[1].image = "busybox";
  config.mounts[1].image_sub_path = "etc";
  const std::string id = engine_->create_container(sandbox, config).value();
  EXPECT_EQ((*engine_->get_container(id))->config.mounts[1].image_id, "sha256:0123");
  EXPECT_EQ(world_.roots, (std::set<std::string>{id, id + ".image-1"}));
  ASSERT_EQ(world_.trees.size(), 1U);
  EXPECT_EQ(world_.trees.begin()->second.sub_path, "etc");
  EXPECT_TRUE(world_.trees.begin()->second.upper_dir.empty());
  // What no container has goes at the next start; what one has stays.
  world_.roots.insert("gone.image-0");
  restart();
  EXPECT_EQ(world_.roots, (std::set<std::string>{id, id + ".image-1"}));
  ASSERT_TRUE(engine_->remove_container(id).ok());
  EXPECT_TRUE(world_.roots.empty());

  config.mounts[1].image = "none";
  const auto refused = engine_->create_container(sandbox, config);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kInvalidArgument);
  EXPECT_NE(
      refused.error().message().find("ImageVolumeMountFailed: mounts[1].image.image: \"none\""),
      std::string::npos);
  EXPECT_TRUE(world_.roots.empty());
}

TEST_F(EngineTest, WhatNobodyWasThereToGetGoesToWhoAsksAgain) {
  const GivenUp gone = [] { return true; };
  sandbox_ = *engine_->run_sandbox(pod(), "", gone);
  SandboxConfig other = pod();
  other.hostname = "other";
  EXPECT_EQ(engine_->run_sandbox(other, "").error().code(), Code::kAlreadyExists);
  EXPECT_EQ(engine_->run_sandbox(pod(), "", gone).value(), sandbox_);
  EXPECT_EQ(engine_->run_sandbox(pod(), "").value(), sandbox_);
  EXPECT_EQ(engine_->run_sandbox(pod(), "").error().code(), Code::kAlreadyExists) << "it was got";

  const std::string id = *engine_->create_container(sandbox_, main_container(), gone);
  EXPECT_EQ(engine_->create_container(sandbox_, main_container()).value(), id);
  EXPECT_EQ(engine_->create_container(sandbox_, main_container()).error().code(),
            Code::kAlreadyExists);
  // Once it is started it is somebody's.
  ContainerConfig second = main_container();
  second.name.attempt = 1;
  const std::string started = *engine_->create_container(sandbox_, second, gone);
  ASSERT_TRUE(engine_->start_container(started).ok());
  EXPECT_EQ(engine_->create_container(sandbox_, second).error().code(), Code::kAlreadyExists);
}

TEST_F(EngineTest, WhoJoinsACreateThatWasGivenUpGetsIt) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  std::atomic<bool> joining{false};
  std::thread joiner;
  Result<std::string> joined = Error(Code::kInternal, "never");
  world_.at_create = [&](const std::string&) {
    if (joiner.joinable()) return;
    joiner = std::thread([&] {
      joining = true;
      joined = engine_->create_container(sandbox_, main_container());
    });
    EXPECT_TRUE(eventually([&] { return joining.load(); }));
    std::this_thread::sleep_for(
        std::chrono::milliseconds(50));  // into the claim; else it asks later
  };
  const auto first = engine_->create_container(sandbox_, main_container(), [] { return true; });
  joiner.join();
  ASSERT_TRUE(joined.ok()) << joined.error().message();
  EXPECT_EQ(*joined, *first);
  EXPECT_EQ(engine_->create_container(sandbox_, main_container()).error().code(),
            Code::kAlreadyExists);
}

TEST_F(EngineTest, ACreateThatCouldNotBeUndoneGoesWithItsSandbox) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  world_.needs_path = "/nowhere/to/be/found";
  world_.fail = "remove_root";
  EXPECT_FALSE(engine_->create_container(sandbox_, main_container()).ok());
  EXPECT_TRUE(engine_->list_containers({}).empty());
  ASSERT_EQ(world_.roots.size(), 1U);
  EXPECT_FALSE(engine_->remove_sandbox(sandbox_).ok()) << "else nobody would try again";
  world_.fail = "";
  const auto removed = engine_->remove_sandbox(sandbox_);
  ASSERT_TRUE(removed.ok()) << removed.error().message();
  EXPECT_TRUE(world_.roots.empty());
  restart();
  EXPECT_TRUE(engine_->status().set_aside.empty());
}

TEST_F(EngineTest, PodsStatsWaitOnceForFirstFiguresHoweverManyPods) {
  std::mutex walks;
  std::unique_lock hold(walks);  // no walk of a root ends
  world_.at_root_usage = [&] { const std::scoped_lock lock(walks); };
  constexpr int kPods = 20;
  for (int i = 0; i < kPods; ++i) {
    const std::string sandbox = *engine_->run_sandbox(pod("pod" + std::to_string(i)), "");
    const std::string id = *engine_->create_container(sandbox, main_container());
    ASSERT_TRUE(engine_->start_container(id).ok());
  }
  const int64_t began = now_boot_ns();
  EXPECT_EQ(engine_->list_sandbox_stats({}).size(), static_cast<size_t>(kPods));
  EXPECT_LT(now_boot_ns() - began, 10'000'000'000);  // one wait is a second
  hold.unlock();
  engine_.reset();  // before the lock that its walks still want
}

TEST_F(EngineTest, AContainersStatusNamesItsImageAsPeopleDo) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  ContainerConfig config = main_container();
  config.image = "sha256:0123";  // a kubelet asks so
  const auto first = engine_->create_container(sandbox_, config);
  ASSERT_TRUE(first.ok()) << first.error().message();
  EXPECT_EQ((*engine_->get_container(*first))->image_name, "docker.io/library/busybox:latest");
  config.name.attempt = 1;
  config.user_specified_image = "other:1.36";  // not a name of the image any more
  const auto second = engine_->create_container(sandbox_, config);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ((*engine_->get_container(*second))->image_name, "docker.io/library/busybox:latest");
}

TEST_F(EngineTest, TheNodesRulesForImagesAreAskedForEachContainer) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  ContainerConfig config = main_container();
  config.image = "sha256:0123";
  config.user_specified_image = "busybox:1.36";
  config.mounts.emplace_back();
  config.mounts[0].container_path = "/volume";
  config.mounts[0].image = "busybox";
  world_.refused_image = "busybox:1.36";
  const auto refused = engine_->create_container(sandbox_, config);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kPermissionDenied);
  EXPECT_TRUE(engine_->list_containers({}).empty());
  EXPECT_TRUE(world_.roots.empty());
  world_.refused_image = "busybox";
  const auto volume = engine_->create_container(sandbox_, config);
  ASSERT_FALSE(volume.ok());
  EXPECT_EQ(volume.error().message(),
            "ImageVolumeMountFailed: mounts[0].image: image policy says no");
  EXPECT_TRUE(engine_->list_containers({}).empty());
  world_.refused_image.clear();
  world_.admissions.clear();
  ASSERT_TRUE(engine_->create_container(sandbox_, config).ok());
  ASSERT_EQ(world_.admissions.size(), 2U);
  EXPECT_EQ(world_.admissions[0].image_id, "sha256:0123");
  EXPECT_EQ(world_.admissions[0].name, "busybox:1.36");
  EXPECT_EQ(world_.admissions[0].kubernetes_namespace, "default");
  EXPECT_EQ(world_.admissions[1].name, "busybox");
}

TEST_F(EngineTest, WhatIsWrongIsNamed) {
  EXPECT_EQ(engine_->run_sandbox(pod(), "gvisor").error().code(), Code::kInvalidArgument);
  EXPECT_EQ(engine_->create_container("feed", main_container()).error().code(), Code::kNotFound);
  const std::string sandbox = *engine_->run_sandbox(pod(), "");
  ContainerConfig config = main_container();
  config.image = "nothere";
  const auto created = engine_->create_container(sandbox, config);
  EXPECT_EQ(created.error().code(), Code::kNotFound);
  EXPECT_NE(created.error().message().find("nothere"), std::string::npos);
  EXPECT_EQ(engine_->start_container("feed").error().code(), Code::kNotFound);
}

TEST_F(EngineTest, AMissingBindSourceIsMadeWhereItCanBe) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  world_.needs_path = folder_->path() + "/data/deep";
  ContainerConfig config = main_container();
  config.mounts = {{.container_path = "/data", .host_path = world_.needs_path}};
  const auto made = engine_->create_container(sandbox_, config);
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_TRUE(sys::exists(world_.needs_path));

  config.name.name = "other";
  world_.needs_path = "/proc/self/no/such";
  config.mounts[0].host_path = world_.needs_path;
  EXPECT_FALSE(engine_->create_container(sandbox_, config).ok());
}

TEST_F(EngineTest, AMissingProgramIsTheRequestsFault) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  world_.needs_path = folder_->path() + "/never";
  const auto made = engine_->create_container(sandbox_, main_container());
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code(), Code::kInvalidArgument);
}

TEST_F(EngineTest, AProgramThatCannotStartIsAnExitedContainer) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  const std::string id = *engine_->create_container(sandbox_, main_container());
  world_.fail = "start";
  EXPECT_FALSE(engine_->start_container(id).ok());
  const auto container = *engine_->get_container(id);
  EXPECT_EQ(container->state, ContainerState::kExited);
  EXPECT_EQ(container->reason, "StartError");
  EXPECT_EQ(container->exit_code, 127);
}

TEST_F(EngineTest, AnOomKillIsTheReasonWhoeverItMet) {
  const auto reason_of = [&](int32_t exit_code, bool oom_killed) {
    const std::string id = running();
    monitor::ContainerInfo info = world_.containers[id];
    info.state = monitor::ContainerState::kExited;
    info.exit_code = exit_code;
    info.oom_killed = oom_killed;
    world_.events.container_changed(info);
    std::string reason = (*engine_->get_container(id))->reason;
    EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
    return reason;
  };
  EXPECT_EQ(reason_of(137, true), "OOMKilled");
  EXPECT_EQ(reason_of(1, true), "OOMKilled");  // a child was killed, the first process gave up
  EXPECT_EQ(reason_of(0, true), "OOMKilled");
  EXPECT_EQ(reason_of(137, false), "Error");
  EXPECT_EQ(reason_of(0, false), "Completed");
}

TEST_F(EngineTest, StopSendsTheImagesSignalAndThenKills) {
  const std::string id = running();
  world_.ignores_sigterm = true;
  ASSERT_TRUE(engine_->stop_container(id, 50).ok());
  ASSERT_EQ(world_.signals.size(), 2U);
  EXPECT_EQ(world_.signals[0].second, 3);  // SIGQUIT, as the image says
  EXPECT_EQ(world_.signals[1].second, 9);
}

TEST_F(EngineTest, ExecSyncCapturesBothStreams) {
  const std::string id = running();
  const auto done = engine_->exec_sync({.container_id = id, .command = {"true"}});
  ASSERT_TRUE(done.ok()) << done.error().message();
  EXPECT_EQ(done->exit_code, 5);
  EXPECT_EQ(done->out, "out");
  EXPECT_EQ(done->err, "err");
}

TEST_F(EngineTest, ExecSyncIsKilledAtItsTimeout) {
  const std::string id = running();
  world_.fail = "exec hangs";
  const auto done =
      engine_->exec_sync({.container_id = id, .command = {"sleep"}, .timeout_ms = 50});
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), Code::kDeadlineExceeded);
}

TEST_F(EngineTest, ExecSyncIsKilledWhenNobodyWaitsForIt) {
  const std::string id = running();
  world_.fail = "exec hangs";
  int looks = 0;
  const auto done = engine_->exec_sync(
      {.container_id = id, .command = {"sleep"}, .is_given_up = [&] { return ++looks == 2; }});
  EXPECT_EQ(done.error().code(), Code::kCancelled);
  EXPECT_EQ(world_.exec_kills, 1);
}

TEST_F(EngineTest, ARestartFindsWhatRunsAndWhatEndedMeanwhile) {
  const std::string id = running();
  engine_.reset();
  restart();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kReady);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
  EXPECT_EQ(engine_->run_sandbox(pod(), "").error().code(), Code::kAlreadyExists);
  engine_.reset();
  world_.containers[id].state = monitor::ContainerState::kExited;
  world_.containers[id].exit_code = 3;
  restart();
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited);
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 3);
}

TEST_F(EngineTest, WhatRunsKeepsItsRootWhenItsOwnRecordIsSetAside) {
  const std::string id = running();
  change_database("UPDATE container SET record = '{not json'");
  restart();
  EXPECT_FALSE(engine_->get_container(id).ok());
  EXPECT_TRUE(engine_->may_need_root(id));
  EXPECT_TRUE(engine_->may_need_root(image_volume_holder(id, 0)));
  EXPECT_FALSE(engine_->may_need_root("other"));
  EXPECT_EQ(world_.roots, std::set{id});
  EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
}

TEST_F(EngineTest, WhatRunsKeepsItsRootWhenItsSandboxsRecordIsSetAside) {
  const std::string id = running();
  change_database("UPDATE sandbox SET record = '{not json'");
  for (int start = 0; start < 2; ++start) {
    restart();
    EXPECT_TRUE(engine_->may_need_root(id));
    EXPECT_EQ(world_.roots, std::set{id});
    EXPECT_EQ(left_in_state(), std::vector{sandbox_});
    EXPECT_EQ(engine_->status().set_aside.size(), 2U) << "the container's is told of, too";
  }
}

TEST_F(EngineTest, AContainerOfNoSandboxIsEnded) {
  const std::string id = running();
  change_database("DELETE FROM sandbox");
  restart();
  EXPECT_FALSE(engine_->may_need_root(id));
  EXPECT_TRUE(world_.roots.empty());
  EXPECT_TRUE(left_in_state().empty());
}

TEST_F(EngineTest, WithoutItsRecordsItDoesNotOpenAndTakesNothing) {
  const std::string id = running();
  change_database("ALTER TABLE container RENAME COLUMN record TO other");
  const auto without = open();
  ASSERT_FALSE(without.ok());
  EXPECT_NE(without.error().message().find(
                "/engine.db: the records of pods and containers cannot be read: sqlite: "),
            std::string::npos)
      << without.error().message();
  EXPECT_EQ(world_.roots, std::set{id});
  EXPECT_EQ(left_in_state(), std::vector{sandbox_});
  change_database("ALTER TABLE container RENAME COLUMN other TO record");
  restart();
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
}

TEST_F(EngineTest, ARestartWithoutTheMonitorEndsTheSandbox) {
  const std::string id = running();
  engine_.reset();
  world_.monitors.clear();
  restart();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
  EXPECT_EQ((*engine_->get_container(id))->reason, "MonitorLost");
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 137);
  EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
}

// A busy host is no reason to end what runs.
TEST_F(EngineTest, AMonitorThatDoesNotAnswerAtARestartIsAskedAgain) {
  const std::string id = running();
  engine_.reset();
  world_.adopts_fail = true;
  restart();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kReady);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
  const auto exec = [&] { return engine_->exec_sync({.container_id = id, .command = {"x"}}); };
  EXPECT_EQ(exec().error().code(), Code::kUnavailable);
  EXPECT_EQ(engine_->create_container(sandbox_, main_container()).error().code(),
            Code::kUnavailable);
  EXPECT_EQ(engine_->stop_container(id, 0).error().code(), Code::kDeadlineExceeded);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
  EXPECT_TRUE(world_.signals.empty());
  world_.adopts_fail = false;
  EXPECT_TRUE(eventually([&] { return exec().ok(); }));
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kReady);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
}

TEST_F(EngineTest, AMonitorThatDoesNotListAtARestartIsAskedAgain) {
  const std::string id = running();
  engine_.reset();
  world_.containers[id].state = monitor::ContainerState::kExited;
  world_.containers[id].exit_code = 3;
  world_.lists_fail = true;
  restart();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kReady);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
  world_.lists_fail = false;
  EXPECT_TRUE(
      eventually([&] { return (*engine_->get_container(id))->state == ContainerState::kExited; }));
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 3);
}

TEST_F(EngineTest, APodWhoseMonitorDoesNotAnswerAtARestartCanBeEnded) {
  const std::string id = running();
  engine_.reset();
  world_.adopts_fail = true;
  restart();
  ASSERT_TRUE(engine_->stop_sandbox(sandbox_).ok());
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited);
  EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
}

TEST_F(EngineTest, AnExitBeforeItsCreateIsRecordedIsHeard) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  world_.at_create = [&](const std::string& made) {
    auto& info = world_.containers[made];
    info.state = monitor::ContainerState::kExited;
    info.exit_code = 137;
    info.finished_at = now_unix_ns();
    world_.events.container_changed(info);
  };
  std::vector<Event::Kind> kinds;
  const auto subscription =
      engine_->subscribe([&](const Event& event) { kinds.push_back(event.kind); });
  const auto id = engine_->create_container(sandbox_, main_container());
  ASSERT_TRUE(id.ok()) << id.error().message();
  EXPECT_EQ((*engine_->get_container(*id))->state, ContainerState::kExited);
  EXPECT_EQ((*engine_->get_container(*id))->exit_code, 137);
  using Kind = Event::Kind;
  EXPECT_EQ(kinds, (std::vector{Kind::kContainerCreated, Kind::kContainerStopped}));
  EXPECT_TRUE(engine_->remove_container(*id).ok());
}

TEST_F(EngineTest, AKillAsksForAnExitThatNobodyHeard) {
  const std::string id = running();
  world_.containers[id].state = monitor::ContainerState::kExited;
  world_.containers[id].exit_code = 4;
  const auto stopped = engine_->stop_container(id, 0);
  ASSERT_TRUE(stopped.ok()) << stopped.error().message();
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 4);
}

TEST_F(EngineTest, AKillOfWhatTheMonitorDoesNotKnowEndsIt) {
  const std::string id = running();
  world_.containers[id].state = monitor::ContainerState::kExited;
  world_.lists_nothing = true;
  const auto stopped = engine_->stop_container(id, 0);
  ASSERT_TRUE(stopped.ok()) << stopped.error().message();
  EXPECT_EQ((*engine_->get_container(id))->reason, "MonitorLost");
}

// What a monitor left on record is swept away with it.
TEST_F(EngineTest, AnExitOnALostMonitorsRecordIsKept) {
  const std::string id = running();
  const std::string folder =
      cat(folder_->path(), "/state/sandboxes/", sandbox_, "/monitor/containers");
  ASSERT_TRUE(sys::make_dirs(folder, 0700).ok());
  monitor::ContainerInfo info = world_.containers[id];
  info.state = monitor::ContainerState::kExited;
  info.exit_code = 3;
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, cat(folder, "/", id, ".json"),
                                     monitor::encode_record(info), 0600)
                  .ok());
  world_.at_shutdown = [folder] { EXPECT_TRUE(sys::remove_tree(folder).ok()); };
  world_.clients_lost = true;
  world_.events.lost();
  EXPECT_TRUE(
      eventually([&] { return (*engine_->get_container(id))->state == ContainerState::kExited; }));
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 3);
  EXPECT_EQ((*engine_->get_container(id))->reason, "Error");
}

TEST_F(EngineTest, ThePodInitsEndIsTheSandboxs) {
  const std::string id = running();
  std::mutex mutex;
  std::vector<Event::Kind> kinds;
  const auto subscription = engine_->subscribe([&](const Event& event) {
    const std::scoped_lock lock(mutex);
    kinds.push_back(event.kind);
  });
  world_.events.pod_init_ended();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->reason, "PodInitEnded");
  {
    const std::scoped_lock lock(mutex);
    EXPECT_EQ(kinds.at(0), Event::Kind::kSandboxStopped);
  }
  EXPECT_EQ(engine_->create_container(sandbox_, main_container()).error().code(),
            Code::kFailedPrecondition);
  EXPECT_TRUE(eventually([&] { return left_in_state().empty(); }));
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited);
  EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
}

TEST_F(EngineTest, ARestartFindsThatThePodInitHasEnded) {
  const std::string id = running();
  engine_.reset();
  const std::string monitor = cat(folder_->path(), "/state/sandboxes/", sandbox_, "/monitor");
  ASSERT_TRUE(sys::make_dirs(monitor, 0700).ok());
  // No process has so late a start.
  monitor::ProcessRecord record{
      .pid = 1, .start_time = uint64_t{1} << 62U, .boot_id = *sys::boot_id()};
  ASSERT_TRUE(
      sys::write_file_atomic(sys::kCwd, monitor + "/pod_init.json", monitor::encode(record), 0600)
          .ok());
  restart();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->reason, "PodInitEnded");
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kExited);
}

TEST_F(EngineTest, ALossWhileASandboxIsMadeFailsItAndHoldsUpNoOther) {
  const std::string id = running();
  const monitor::Events other = world_.events;
  world_.at_make_sandbox = [&] {
    world_.events.lost();
    other.lost();
    EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
    EXPECT_TRUE(eventually([&] {
      return (*engine_->get_container(id))->state == ContainerState::kExited;
    })) << "it waits for the one that is being made";
  };
  const auto made = engine_->run_sandbox(pod("slow"), "");
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code(), Code::kUnavailable);
  EXPECT_EQ(engine_->list_sandboxes({}).size(), 1U);
}

/// Pods of the handler "guest", which is a program that never runs here, have a container of their
/// own.
class SandboxContainer : public EngineTest {
 protected:
  void SetUp() override {
    EngineTest::SetUp();
    Options options = engine_->options();
    RuntimeHandler guest{.name = "guest", .path = "/bin/true"};
    guest.sandbox_container = true;
    guest.annotations = {"io.kubernetes.cri.*", "walk"};
    options.handlers = {guest};
    options.pod_init_program = "/bin/true";
    auto ready = engine_->prepare(options);
    ASSERT_TRUE(ready.ok()) << ready.error().message();
    (*ready)();
  }
  std::string running() {
    sandbox_ = *engine_->run_sandbox(pod(), "guest");
    ContainerConfig config = main_container();
    config.annotations = {{"io.kubernetes.cri.sandbox-id", "another"}, {"walk", "1"}};
    const std::string id = *engine_->create_container(sandbox_, config);
    EXPECT_TRUE(engine_->start_container(id).ok());
    return id;
  }
  oci::Spec spec_of(const std::string& id) {
    auto parsed = oci::parse_spec(world_.specs.at(id));
    EXPECT_TRUE(parsed.ok()) << id;
    return std::move(parsed).value_or(oci::Spec());
  }
  void end_own() {
    monitor::ContainerInfo info{.id = sandbox_, .state = monitor::ContainerState::kExited};
    info.exit_code = 137;
    world_.events.container_changed(info);
  }
};

TEST_F(SandboxContainer, IsTheOthersSandboxByAnnotations) {
  const std::string id = running();
  EXPECT_EQ(world_.containers.at(sandbox_).state, monitor::ContainerState::kRunning);
  const oci::Spec own = spec_of(sandbox_);
  EXPECT_EQ(own.annotations,
            (std::map<std::string, std::string>{{"io.kubernetes.cri.container-type", "sandbox"},
                                                {"io.kubernetes.cri.sandbox-id", sandbox_}}));
  // What a container says of itself does not make it another pod's.
  EXPECT_EQ(spec_of(id).annotations,
            (std::map<std::string, std::string>{{"io.kubernetes.cri.container-type", "container"},
                                                {"io.kubernetes.cri.sandbox-id", sandbox_},
                                                {"walk", "1"}}));
  EXPECT_EQ(own.process->args, std::vector<std::string>{"/pod-init"});
  EXPECT_EQ(own.process->user.uid, 65535U);
  EXPECT_TRUE(own.process->capabilities->bounding.empty());
  EXPECT_EQ(own.linux_->cgroups_path, "/fluyt/" + sandbox_);
  EXPECT_EQ(own.root->path, "rootfs");
  EXPECT_TRUE(own.root->readonly);
  const auto program =
      std::find_if(own.mounts.begin(), own.mounts.end(),
                   [](const oci::Mount& mount) { return mount.destination == "/pod-init"; });
  ASSERT_NE(program, own.mounts.end());
  EXPECT_EQ(program->source, "/bin/true");
  const std::string root =
      cat(folder_->path(), "/state/sandboxes/", sandbox_, "/bundles/", sandbox_);
  EXPECT_TRUE(sys::exists(root + "/rootfs/pod-init"));
  EXPECT_TRUE(sys::exists(root + "/rootfs/proc"));
  // It is nobody's container.
  ASSERT_EQ(engine_->list_containers({}).size(), 1U);
  EXPECT_EQ(engine_->get_container(sandbox_).error().code(), Code::kNotFound);
  EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
  EXPECT_TRUE(left_in_state().empty());
}

TEST_F(SandboxContainer, IsNotThereForOtherHandlers) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  const std::string id = *engine_->create_container(sandbox_, main_container());
  EXPECT_FALSE(world_.containers.contains(sandbox_));
  EXPECT_TRUE(spec_of(id).annotations.empty());
}

TEST_F(SandboxContainer, WhatCannotBeStartedIsUndone) {
  world_.fail = "start";
  const auto made = engine_->run_sandbox(pod(), "guest");
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message().find("sandbox container"), std::string::npos)
      << made.error().message();
  EXPECT_TRUE(engine_->list_sandboxes({}).empty());
  EXPECT_TRUE(world_.monitors.empty());
  EXPECT_TRUE(left_in_state().empty());
}

TEST_F(SandboxContainer, ItsEndIsTheSandboxs) {
  const std::string id = running();
  std::mutex mutex;
  std::vector<Event::Kind> kinds;
  const auto subscription = engine_->subscribe([&](const Event& event) {
    const std::scoped_lock lock(mutex);
    kinds.push_back(event.kind);
  });
  end_own();
  // At once, and before the containers'.
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->reason, "SandboxContainerEnded");
  {
    const std::scoped_lock lock(mutex);
    EXPECT_EQ(kinds.at(0), Event::Kind::kSandboxStopped);
  }
  ASSERT_TRUE(
      eventually([&] { return (*engine_->get_container(id))->state == ContainerState::kExited; }));
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 137);
  EXPECT_TRUE(eventually([&] { return left_in_state().empty(); }));
  EXPECT_EQ(engine_->create_container(sandbox_, main_container()).error().code(),
            Code::kFailedPrecondition);
  EXPECT_TRUE(engine_->stop_sandbox(sandbox_).ok());
  EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
}

// The ending reads the records of the monitor, which tell of it again.
TEST_F(SandboxContainer, ItsEndIsHeardOnce) {
  running();
  end_own();
  ASSERT_TRUE(eventually([&] { return left_in_state().empty(); }));
  const std::string left = cat(folder_->path(), "/state/sandboxes/", sandbox_, "/left");
  ASSERT_TRUE(sys::make_dirs(left, 0700).ok());
  end_own();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_TRUE(sys::exists(left)) << "it was ended again";
  EXPECT_TRUE(engine_->remove_sandbox(sandbox_).ok());
  EXPECT_FALSE(sys::exists(left));
}

TEST_F(SandboxContainer, ItsEndIsNoNewsOfASandboxThatIsStopped) {
  running();
  ASSERT_TRUE(engine_->stop_sandbox(sandbox_).ok());
  end_own();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->reason, "");
}

TEST_F(SandboxContainer, ARestartFindsItOrItsEnd) {
  const std::string id = running();
  engine_.reset();
  restart();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kReady);
  EXPECT_EQ((*engine_->get_container(id))->state, ContainerState::kRunning);
  engine_.reset();
  world_.containers[sandbox_].state = monitor::ContainerState::kExited;
  restart();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
  EXPECT_TRUE(
      eventually([&] { return (*engine_->get_container(id))->state == ContainerState::kExited; }));
}

TEST_F(SandboxContainer, ARestartThatDoesNotFindItEndsTheSandbox) {
  const std::string id = running();
  engine_.reset();
  world_.containers.erase(sandbox_);
  restart();
  EXPECT_EQ((*engine_->get_sandbox(sandbox_))->state, SandboxState::kNotReady);
  EXPECT_EQ((*engine_->get_container(id))->exit_code, 137);
}

TEST_F(EngineTest, EventsAreToldInOrder) {
  std::vector<Event::Kind> kinds;
  const auto subscription =
      engine_->subscribe([&](const Event& event) { kinds.push_back(event.kind); });
  const std::string id = running();
  ASSERT_TRUE(engine_->stop_container(id, 0).ok());
  ASSERT_TRUE(engine_->remove_sandbox(sandbox_).ok());
  using Kind = Event::Kind;
  EXPECT_EQ(kinds,
            (std::vector{Kind::kSandboxReady, Kind::kContainerCreated, Kind::kContainerStarted,
                         Kind::kContainerStopped, Kind::kSandboxStopped, Kind::kContainerRemoved,
                         Kind::kSandboxRemoved}));
}

TEST_F(EngineTest, AnExitThatIsTheFirstWordOfAStartIsBoth) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  const std::string id = *engine_->create_container(sandbox_, main_container());
  std::vector<std::pair<Event::Kind, ContainerState>> told;
  const auto subscription = engine_->subscribe([&](const Event& event) {
    ASSERT_EQ(event.containers.size(), 1U);
    EXPECT_EQ(event.containers[0], event.container);
    told.emplace_back(event.kind, event.container->state);
  });
  monitor::ContainerInfo info = world_.containers[id];
  info.state = monitor::ContainerState::kExited;
  info.started_at = now_unix_ns();
  info.finished_at = info.started_at + 1;
  world_.events.container_changed(info);
  world_.events.container_changed(info);  // once more, after a reconnection
  using Kind = Event::Kind;
  EXPECT_EQ(told, (std::vector{std::pair(Kind::kContainerStarted, ContainerState::kRunning),
                               std::pair(Kind::kContainerStopped, ContainerState::kExited)}));
}

TEST_F(EngineTest, EveryListenerHearsTheSameHistory) {
  sandbox_ = *engine_->run_sandbox(pod(), "");
  using Line = std::tuple<Event::Kind, std::string, int64_t, size_t>;
  std::vector<Line> first;
  std::vector<Line> second;
  const auto listen = [&](std::vector<Line>& lines) {
    return engine_->subscribe([&lines](const Event& event) {
      lines.emplace_back(event.kind, event.container->id, event.time, event.containers.size());
    });
  };
  const auto one = listen(first);
  const auto other = listen(second);
  constexpr int kThreads = 4;
  constexpr int kRounds = 25;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([this, i] {
      for (int round = 0; round < kRounds; ++round) {
        ContainerConfig config = main_container();
        config.name = {cat("c", i), static_cast<uint32_t>(round)};
        const std::string id = *engine_->create_container(sandbox_, config);
        EXPECT_TRUE(engine_->start_container(id).ok());
        EXPECT_TRUE(engine_->stop_container(id, 0).ok());
        EXPECT_TRUE(engine_->remove_container(id).ok());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(first, second);
  ASSERT_EQ(first.size(), static_cast<size_t>(kThreads) * kRounds * 4);
  std::map<std::string, std::vector<Event::Kind>> lives;
  size_t alive = 0;
  int64_t last = 0;
  for (const auto& [kind, id, time, containers] : first) {
    lives[id].push_back(kind);
    if (kind == Event::Kind::kContainerCreated) ++alive;
    if (kind == Event::Kind::kContainerRemoved) --alive;
    EXPECT_EQ(containers, alive);
    EXPECT_GE(time, last);
    last = time;
  }
  using Kind = Event::Kind;
  for (const auto& [id, kinds] : lives) {
    EXPECT_EQ(kinds, (std::vector{Kind::kContainerCreated, Kind::kContainerStarted,
                                  Kind::kContainerStopped, Kind::kContainerRemoved}));
  }
}

TEST_F(EngineTest, ACheckpointIsAFileOrNothing) {
  world_.upper = folder_->path() + "/upper";
  ASSERT_TRUE(sys::make_dirs(world_.upper, 0755).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, world_.upper + "/written", "x", 0644).ok());
  const std::string id = running();
  const std::string out = folder_->path() + "/out";
  ASSERT_TRUE(sys::make_dirs(out, 0755).ok());
  const std::string location = out + "/checkpoint.tar";
  const auto done = engine_->checkpoint_container(id, location, 0);
  ASSERT_TRUE(done.ok()) << done.error().message();
  const struct stat info = *sys::stat_of(*sys::open(location, O_RDONLY));
  EXPECT_EQ(info.st_mode & 0777U, 0600U);
  const std::string tar = *sys::read_file(location, 1UL << 20U);
  for (const char* part : {"checkpoint/pages-1.img", "config.dump", "spec.dump", "rootfs-diff.tar",
                           "written", "/bin/sh", "checkpointedTime"}) {
    EXPECT_NE(tar.find(part), std::string::npos) << part;
  }
  EXPECT_TRUE(sys::list_dir(folder_->path() + "/root/checkpoints")->empty());

  world_.fail = "checkpoint";
  EXPECT_FALSE(engine_->checkpoint_container(id, location, 0).ok());
  EXPECT_EQ(*sys::read_file(location, 1UL << 20U), tar);  // the old one is still there
  EXPECT_EQ(sys::list_dir(out)->size(), 1U);
  EXPECT_TRUE(sys::list_dir(folder_->path() + "/root/checkpoints")->empty());
  world_.fail = "";
  for (const std::string& wrong :
       {std::string("relative"), std::string(), out, out + "/", out + "/none/x", out + "/../x"}) {
    const auto refused = engine_->checkpoint_container(id, wrong, 0);
    ASSERT_FALSE(refused.ok()) << wrong;
    EXPECT_EQ(refused.error().code(), Code::kInvalidArgument) << wrong;
  }
  ASSERT_TRUE(engine_->stop_container(id, 0).ok());
  EXPECT_EQ(engine_->checkpoint_container(id, location, 0).error().code(),
            Code::kFailedPrecondition);
}

TEST_F(EngineTest, ARemoveEndsACheckpoint) {
  world_.upper = folder_->path() + "/upper";
  ASSERT_TRUE(sys::make_dirs(world_.upper, 0755).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, world_.upper + "/written", "x", 0644).ok());
  const std::string id = running();
  std::thread remover;
  Result<> removed;
  world_.at_checkpoint = [&](const std::string&) {
    remover = std::thread([&] { removed = engine_->remove_container(id); });
    EXPECT_TRUE(eventually([&] {
      const std::scoped_lock lock(world_.mutex);
      return !world_.signals.empty();
    }));
  };
  const std::string location = folder_->path() + "/checkpoint.tar";
  const auto done = engine_->checkpoint_container(id, location, 0);
  remover.join();
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), Code::kCancelled);
  EXPECT_TRUE(removed.ok());
  EXPECT_FALSE(sys::exists(location));
  EXPECT_EQ(engine_->get_container(id).error().code(), Code::kNotFound);
}

TEST_F(EngineTest, TheEndIsTold) {
  std::vector<Event::Kind> kinds;
  const auto subscription =
      engine_->subscribe([&](const Event& event) { kinds.push_back(event.kind); });
  engine_->end_events();
  EXPECT_EQ(kinds, std::vector{Event::Kind::kEnd});
}

}  // namespace
}  // namespace fluyt::engine
