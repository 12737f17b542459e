#include "monitor/process/handover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace fluyt::monitor {
namespace {

using testing::HasSubstr;
using testing::UnorderedElementsAre;

Handover full() {
  Handover v;
  v.previous = 20;
  v.pod_init_program = 21;
  v.listener = 22;
  v.peers = {{23, "fluytd-1"}};
  v.answers = {{"fluytd-1", 7, R"({"id":7})"}};
  v.asked_by = "fluytd-1";
  v.request = 9;
  v.sandbox_made = true;
  v.namespaces = {"", "/s/ns/net", "/s/ns/ipc", "/s/ns/uts", "/s/ns/pid"};
  v.pod_init = 24;
  v.pod_init_record = {.pid = 77, .start_time = 5, .boot_id = "b", .cgroup_unified = "/c"};
  HandoverContainer container;
  container.info = {.id = "c1", .state = ContainerState::kRunning, .pid = 99, .started_at = 12};
  container.own_pid_namespace = false;
  container.log_directory = "/logs/\xff";
  container.log_path = "main.log";
  container.init = 25;
  container.gate = 26;
  container.report = 27;
  container.streams = {.terminal = false,
                       .outputs = {28, 29},
                       .input = 30,
                       .stdin_once = true,
                       .input_backlog = std::string("in\0put", 6),
                       .log = 31,
                       .unfinished_lines = {"half a \xc3", "of err"},
                       .dropped_bytes = 3,
                       .torn = true,
                       .clients = {{32, 33, 34, "out\xff", "err"}}};
  v.containers = {container};
  v.execs = {{101, 3, "c1", 35, {}}};
  v.ended_execs = {{99, 1, "c1", kNoFd, {}}, {100, 2, "c1", kNoFd, 137}};
  v.next_exec = 4;
  v.given_up_sessions = {88};
  v.logged_bytes = 1000;
  return v;
}

TEST(Handover, ComesBackAsItWentWhateverBytesItHolds) {
  const auto back = decode_handover(encode(full()));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(*back, full());
  EXPECT_EQ(decode_handover(encode(Handover{})).value(), Handover{});
}

TEST(Handover, NamesEveryDescriptorOnce) {
  EXPECT_THAT(descriptors_of(full()),
              UnorderedElementsAre(20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35));
}

TEST(Handover, OfAnotherReleaseHasFieldsTooManyAndTooFew) {
  auto object = nlohmann::json::from_cbor(encode(full()));
  object["of_tomorrow"] = {1, 2};
  object["containers"][0]["of_tomorrow"] = "x";
  object["containers"][0]["streams"]["of_tomorrow"] = true;
  object.erase("given_up_sessions");
  object["containers"][0]["streams"].erase("torn");
  std::string bytes;
  nlohmann::json::to_cbor(object, bytes);
  Handover expected = full();
  expected.given_up_sessions.clear();
  expected.containers[0].streams.torn = false;
  const auto back = decode_handover(bytes);
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(*back, expected);
}

TEST(Handover, OfAFormatThatWeDoNotKnowIsRefused) {
  auto object = nlohmann::json::from_cbor(encode(full()));
  object["format"] = 2;
  std::string bytes;
  nlohmann::json::to_cbor(object, bytes);
  const auto back = decode_handover(bytes);
  ASSERT_FALSE(back.ok());
  EXPECT_EQ(back.error().code(), Code::kFailedPrecondition);
  EXPECT_THAT(back.error().message(), HasSubstr("format 2, expected 1"));
  for (const std::string& broken : {std::string(), std::string("\xff"), bytes.substr(0, 40)})
    EXPECT_FALSE(decode_handover(broken).ok());
}

}  // namespace
}  // namespace fluyt::monitor
