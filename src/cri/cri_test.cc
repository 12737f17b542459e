#include "cri/cri_test.h"

#include "cri/from_api.h"
#include "cri/to_api.h"
// after api.h
#include <gtest/gtest.h>

#include "cri/batches.h"
#include "cri/credentials.h"
#include "cri/events.h"

namespace fluyt::cri {
namespace {

/// The message of the error that `result` must be.
template <class T>
std::string refused(const Result<T>& result) {
  if (result.ok()) return "accepted";
  EXPECT_EQ(result.error().code(), Code::kInvalidArgument);
  return result.error().message();
}

TEST(FromApi, ASandboxNeedsItsName) {
  EXPECT_TRUE(sandbox_config(pod()).ok());
  auto config = pod();
  config.mutable_metadata()->clear_uid();
  EXPECT_EQ(refused(sandbox_config(config)), "metadata.uid: \"\": expected an id");
}

TEST(FromApi, PortsAreChecked) {
  auto config = pod();
  config.add_port_mappings()->set_host_port(70000);
  EXPECT_EQ(refused(sandbox_config(config)),
            "port_mappings[0].host_port: 70000: expected 0 to 65535");
}

TEST(FromApi, UserNamespacesAreChecked) {
  auto config = pod();
  auto* user = config.mutable_linux()
                   ->mutable_security_context()
                   ->mutable_namespace_options()
                   ->mutable_userns_options();
  user->set_mode(api::CONTAINER);
  EXPECT_NE(refused(sandbox_config(config)).find("userns_options.mode: CONTAINER"),
            std::string::npos);
  user->set_mode(api::POD);
  EXPECT_NE(refused(sandbox_config(config)).find("uids: 0: expected exactly one mapping"),
            std::string::npos);
  auto* uids = user->add_uids();
  uids->set_length(65536);
  uids->set_host_id(100000);
  EXPECT_NE(refused(sandbox_config(config)).find("gids: 0: expected exactly one mapping"),
            std::string::npos);
  auto* gids = user->add_gids();
  gids->set_host_id(200000);
  EXPECT_NE(refused(sandbox_config(config)).find("gids[0].length: 0"), std::string::npos);
  gids->set_length(4294967295);
  EXPECT_NE(refused(sandbox_config(config)).find("gids[0].length: 4294967295: expected at most"),
            std::string::npos);
  gids->set_length(10);
  const auto taken = sandbox_config(config);
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(taken->namespaces.user_ids, (engine::UserIds{{0, 100000, 65536}, {0, 200000, 10}}));
  uids->set_container_id(1);
  EXPECT_NE(refused(sandbox_config(config)).find("uids[0].container_id: 1: expected 0"),
            std::string::npos);
  uids->set_container_id(0);
  user->add_uids()->set_length(1);
  EXPECT_NE(refused(sandbox_config(config)).find("uids: 2"), std::string::npos);
  user->set_mode(api::NODE);
  EXPECT_NE(refused(sandbox_config(config)).find("none with mode NODE"), std::string::npos);
  user->Clear();
  user->set_mode(api::NODE);
  EXPECT_EQ(sandbox_config(config)->namespaces.user, engine::NamespaceMode::kNode);
}

TEST(FromApi, RecursiveReadOnlyNeedsReadOnlyAndPrivate) {
  auto config = container();
  auto* mount = config.add_mounts();
  mount->set_container_path("/c");
  mount->set_host_path("/h");
  mount->set_recursive_read_only(true);
  EXPECT_NE(refused(container_config(config)).find("mounts[0].recursive_read_only"),
            std::string::npos);
  mount->set_readonly(true);
  EXPECT_TRUE(container_config(config).ok());
  mount->set_propagation(api::PROPAGATION_BIDIRECTIONAL);
  EXPECT_NE(refused(container_config(config)).find("PROPAGATION_PRIVATE"), std::string::npos);
}

TEST(FromApi, AGroupAloneIsRefused) {
  auto config = container();
  config.mutable_linux()->mutable_security_context()->mutable_run_as_group()->set_value(5);
  EXPECT_NE(refused(container_config(config)).find("run_as_group: 5"), std::string::npos);
}

TEST(FromApi, TheNewProfileFieldWinsOverTheOld) {
  auto config = container();
  auto* security = config.mutable_linux()->mutable_security_context();
  EXPECT_FALSE(container_config(config)->security.seccomp);
  security->set_seccomp_profile_path("runtime/default");
  EXPECT_EQ(container_config(config)->security.seccomp->type,
            engine::SecurityProfile::Type::kRuntimeDefault);
  security->mutable_seccomp()->set_profile_type(api::SecurityProfile_ProfileType_Unconfined);
  EXPECT_EQ(container_config(config)->security.seccomp->type,
            engine::SecurityProfile::Type::kUnconfined);
}

TEST(FromApi, EnvironmentValuesAreBytes) {
  auto config = container();
  auto* env = config.add_envs();
  env->set_key("K");
  env->set_value(std::string("\xff\x01", 2));
  EXPECT_EQ(container_config(config)->envs[0].value, std::string("\xff\x01", 2));
  env->set_key("A=B");
  EXPECT_NE(refused(container_config(config)).find("envs[0].key"), std::string::npos);
}

TEST(StopSignals, GoThereAndBack) {
  auto config = container();
  config.set_stop_signal(api::SIGRTMINPLUS3);
  const auto there = container_config(config);
  ASSERT_TRUE(there.ok());
  EXPECT_EQ(there->stop_signal, "SIGRTMIN+3");
  engine::Container value;
  value.stop_signal = there->stop_signal;
  api::ContainerStatus status;
  fill(value, status);
  EXPECT_EQ(status.stop_signal(), api::SIGRTMINPLUS3);
}

TEST(ToApi, OneImageIdEverywhere) {
  engine::Container value;
  value.image_id = "sha256:1";
  value.image_digest = "docker.io/library/busybox@sha256:2";
  api::Container listed;
  api::ContainerStatus status;
  fill(value, listed);
  fill(value, status);
  EXPECT_EQ(listed.image_id(), "sha256:1");
  EXPECT_EQ(status.image_id(), "sha256:1");
}

TEST(ToApi, TheImagesUserIsANumberOrAName) {
  image::Image image;
  image.config.config.user = "1000:5";
  api::Image number;
  fill(image, number);
  EXPECT_EQ(number.uid().value(), 1000);
  image.config.config.user = "www-data";
  api::Image name;
  fill(image, name);
  EXPECT_FALSE(name.has_uid());
  EXPECT_EQ(name.username(), "www-data");
}

std::vector<int> types(const engine::Event& event) {
  std::vector<int> out;
  for (const auto& message : event_messages(event)) out.push_back(message.container_event_type());
  return out;
}

TEST(Events, ASandboxCountsAsAContainerOfItsOwn) {
  engine::Event event{};
  event.time = 7;
  engine::Sandbox sandbox;
  sandbox.id = "s1";
  sandbox.config.name.uid = "u1";
  event.sandbox = std::make_shared<const engine::Sandbox>(sandbox);
  using Kind = engine::Event::Kind;
  event.kind = Kind::kSandboxReady;
  EXPECT_EQ(types(event),
            (std::vector<int>{api::CONTAINER_CREATED_EVENT, api::CONTAINER_STARTED_EVENT}));
  for (const auto& message : event_messages(event)) {
    EXPECT_EQ(message.container_id(), "s1");
    EXPECT_EQ(message.created_at(), 7);
    EXPECT_EQ(message.pod_sandbox_status().metadata().uid(), "u1");
  }
  event.kind = Kind::kSandboxStopped;
  EXPECT_EQ(types(event), std::vector<int>{api::CONTAINER_STOPPED_EVENT});
  event.kind = Kind::kSandboxRemoved;
  EXPECT_EQ(types(event), std::vector<int>{api::CONTAINER_DELETED_EVENT});
}

TEST(Events, OfAContainerSayHowAllOfItsSandboxAre) {
  engine::Event event{};
  event.kind = engine::Event::Kind::kContainerStopped;
  event.sandbox = std::make_shared<const engine::Sandbox>();
  engine::Container container;
  container.id = "c1";
  container.state = engine::ContainerState::kExited;
  container.exit_code = 3;
  event.container = std::make_shared<const engine::Container>(container);
  container.id = "c2";
  container.state = engine::ContainerState::kRunning;
  event.containers = {event.container, std::make_shared<const engine::Container>(container)};
  const auto messages = event_messages(event);
  ASSERT_EQ(messages.size(), 1U);
  EXPECT_EQ(messages[0].container_id(), "c1");
  EXPECT_EQ(messages[0].container_event_type(), api::CONTAINER_STOPPED_EVENT);
  ASSERT_EQ(messages[0].containers_statuses_size(), 2);
  EXPECT_EQ(messages[0].containers_statuses(0).exit_code(), 3);
  EXPECT_EQ(messages[0].containers_statuses(1).state(), api::CONTAINER_RUNNING);
}

TEST(Events, ThoseOfImagesAreNotTheKubelets) {
  engine::Event event{};
  event.kind = engine::Event::Kind::kImagePulled;
  EXPECT_TRUE(event_messages(event).empty());
}

engine::SandboxStats pod_stats() {
  engine::SandboxStats stats;
  engine::Sandbox sandbox;
  sandbox.id = "s1";
  sandbox.config.name.uid = "u1";
  sandbox.config.labels["a"] = "b";
  stats.sandbox = std::make_shared<const engine::Sandbox>(sandbox);
  engine::ContainerStats inside;
  engine::Container container;
  container.id = "c1";
  inside.container = std::make_shared<const engine::Container>(container);
  stats.containers.push_back(inside);
  return stats;
}

TEST(Stats, WhatIsNotCountedIsNotSet) {
  api::PodSandboxStats to;
  fill(pod_stats(), to);
  EXPECT_EQ(to.attributes().metadata().uid(), "u1");
  EXPECT_EQ(to.attributes().labels().at("a"), "b");
  const auto& pod = to.linux();
  EXPECT_FALSE(pod.cpu().has_usage_core_nano_seconds());
  EXPECT_FALSE(pod.cpu().has_psi());
  EXPECT_FALSE(pod.memory().has_available_bytes());
  EXPECT_FALSE(pod.process().has_process_count());
  EXPECT_FALSE(pod.has_network());
  ASSERT_EQ(pod.containers_size(), 1);
  EXPECT_EQ(pod.containers(0).attributes().id(), "c1");
  EXPECT_FALSE(pod.containers(0).has_swap());
  EXPECT_FALSE(pod.containers(0).has_writable_layer());
}

TEST(Stats, TheDefaultDeviceStandsApart) {
  engine::SandboxStats stats = pod_stats();
  stats.interfaces = {{.name = "eth0", .rx_bytes = 5, .tx_errors = 2}, {.name = "net1"}};
  api::PodSandboxStats to;
  fill(stats, to);
  const auto& network = to.linux().network();
  EXPECT_EQ(network.default_interface().name(), "eth0");
  EXPECT_EQ(network.default_interface().rx_bytes().value(), 5U);
  EXPECT_EQ(network.default_interface().tx_errors().value(), 2U);
  ASSERT_EQ(network.interfaces_size(), 1);
  EXPECT_EQ(network.interfaces(0).name(), "net1");
}

TEST(Stats, PressureAndMemoryAreTold) {
  engine::SandboxStats stats = pod_stats();
  stats.usage.memory_limit_bytes = 100;
  stats.usage.memory_working_set_bytes = 30;
  stats.usage.memory_pressure = engine::Pressure{};
  stats.usage.memory_pressure->some = {.avg10 = 1.5, .avg60 = 2, .avg300 = 3, .total_ns = 7};
  stats.usage.memory_pressure->full.total_ns = 5;
  api::PodSandboxStats to;
  fill(stats, to);
  const auto& memory = to.linux().memory();
  EXPECT_EQ(memory.available_bytes().value(), 70U);
  EXPECT_EQ(memory.psi().some().total(), 7U);
  EXPECT_DOUBLE_EQ(memory.psi().some().avg10(), 1.5);
  EXPECT_EQ(memory.psi().full().total(), 5U);
  stats.usage.memory_working_set_bytes = 130;  // what is taken back is behind
  api::PodSandboxStats over;
  fill(stats, over);
  EXPECT_EQ(over.linux().memory().available_bytes().value(), 0U);
}

TEST(FromApi, APodsResourcesAreKept) {
  auto config = pod();
  EXPECT_FALSE(sandbox_config(config)->resources);
  config.mutable_linux()->mutable_resources()->set_cpu_shares(512);
  const auto got = sandbox_config(config);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->resources->cpu_shares, 512);
  EXPECT_FALSE(got->overhead);
  config.mutable_linux()->mutable_overhead()->set_cpu_shares(-1);
  EXPECT_NE(refused(sandbox_config(config)).find("linux.overhead"), std::string::npos);
}

/// Takes messages as a gRPC writer does, as many as it is told to.
struct Collector {
  std::vector<api::StreamContainersResponse> messages;
  size_t takes = 1000;
  bool Write(const api::StreamContainersResponse& message) {
    if (messages.size() >= takes) return false;
    messages.push_back(message);
    return true;
  }
};

grpc::Status send(Collector& collector, const std::vector<std::string>& ids) {
  return send_in_batches<api::StreamContainersResponse>(
      collector, ids, [](auto& batch, const std::string& id) -> auto& {
        auto& added = *batch.add_containers();
        added.set_id(id);
        return added;
      });
}

TEST(Batches, HoldEachItemOnceInOrder) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5000; ++i) ids.push_back(std::to_string(i) + std::string(1000, 'x'));
  Collector collector;
  EXPECT_TRUE(send(collector, ids).ok());
  EXPECT_GT(collector.messages.size(), 3U);
  std::vector<std::string> got;
  for (const auto& message : collector.messages) {
    EXPECT_LT(message.ByteSizeLong(), 2UL << 20U);
    EXPECT_GT(message.containers_size(), 0);
    for (const auto& container : message.containers()) got.push_back(container.id());
  }
  EXPECT_EQ(got, ids);
}

TEST(Batches, OfNothingAreNoMessage) {
  Collector collector;
  EXPECT_TRUE(send(collector, {}).ok());
  EXPECT_TRUE(collector.messages.empty());
}

TEST(Batches, EndWithACallerWhoWentAway) {
  Collector collector;
  collector.takes = 1;
  const std::vector<std::string> ids(5, std::string(2UL << 20U, 'x'));
  EXPECT_EQ(send(collector, ids).error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(collector.messages.size(), 1U);
}

TEST(Credentials, AreReadFromBase64) {
  api::AuthConfig auth;
  auth.set_auth("dXNlcjpwYTpzcw==");
  EXPECT_EQ(credentials_of(auth)->username, "user");
  EXPECT_EQ(credentials_of(auth)->password, "pa:ss");
  auth.set_auth("!!");
  EXPECT_FALSE(credentials_of(auth).ok());
}

}  // namespace
}  // namespace fluyt::cri
