#include "monitor/protocol/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "monitor/protocol/state_folder.h"

namespace fluyt::monitor {
namespace {

using testing::HasSubstr;

ContainerInfo sample() {
  return {.id = "abc",
          .state = ContainerState::kExited,
          .pid = 42,
          .created_at = 1,
          .started_at = 2,
          .finished_at = 3,
          .exit_code = 137,
          .oom_killed = true,
          .message = "why",
          .cgroup_unified = "/sys/fs/cgroup/x",
          .cgroup_legacy = {{"memory", "/sys/fs/cgroup/memory/x"}},
          .cgroup_unit = "cri-fluyt-c.scope",
          .cgroup_slice = "pods.slice",
          .cgroup_holder = 43,
          .pid_start_time = 99,
          .log_bytes_dropped = 7};
}

RuntimeProgram runc() {
  return {
      .path = "/usr/sbin/runc", .options = {"--debug"}, .systemd_cgroup = true, .root = "/run/r"};
}

template <class T>
T round_trip(T verb, uint64_t id = 5, size_t fds = 0) {
  auto request = wire::decode_request(wire::encode(wire::Request{id, fds, std::move(verb)}));
  EXPECT_TRUE(request.ok()) << (request.ok() ? "" : request.error().message());
  EXPECT_EQ(request->id, id);
  EXPECT_EQ(request->fds, fds);
  EXPECT_TRUE(std::holds_alternative<T>(request->verb));
  return std::get<T>(request->verb);
}

TEST(Messages, EveryVerbComesBackAsItWent) {
  EXPECT_EQ(round_trip(wire::Hello{.version = 3, .oldest = 2, .client = "c"}).client, "c");
  const auto sandbox = round_trip(wire::MakeSandbox{{.id = "s",
                                                     .hostname = "h",
                                                     .new_network = false,
                                                     .shared_pid = true,
                                                     .pod_init_cgroup = "/k",
                                                     .sysctls = {{"a", "b"}, {"c", "d"}},
                                                     .runtime = runc()},
                                                    77});
  EXPECT_EQ(sandbox.sandbox.runtime, runc());
  EXPECT_FALSE(round_trip(wire::MakeSandbox{}).sandbox.runtime);
  EXPECT_EQ(sandbox.sandbox.id, "s");
  EXPECT_FALSE(sandbox.sandbox.new_network);
  EXPECT_TRUE(sandbox.sandbox.new_ipc);
  EXPECT_TRUE(sandbox.sandbox.shared_pid);
  EXPECT_EQ(sandbox.sandbox.sysctls.size(), 2U);
  EXPECT_EQ(sandbox.deadline_ms, 77);
  wire::Create create;
  create.container = {.id = "c",
                      .bundle = "/b",
                      .open_stdin = true,
                      .stdin_once = true,
                      .log_directory = "/l",
                      .log_path = "p",
                      .deadline_ms = 9};
  create.container.root = sys::OverlayMount{{"/a", "/b"}, "/u", "/w"};
  create.container.root->ids = {{{0, 100000, 65536}}, {{0, 200000, 10}, {10, 4294967294, 1}}};
  create.container.trees["/t"] = {.lower_dirs = {"/c"}, .upper_dir = {}, .work_dir = {}};
  create.container.trees["/t"].sub_path = "etc";
  create.container.trees["/t"].label = "u:object_r:t:s0:c1,c2";
  create.container.relabels = {{"/v", "u:object_r:t:s0", "mounts[0]", true}, {"/w", "l", ""}};
  create.container.joins = "other";
  const auto created = round_trip(create, 6, 1).container;
  EXPECT_EQ(created.joins, "other");
  EXPECT_EQ(created.root, create.container.root);
  EXPECT_EQ(created.trees, create.container.trees);
  EXPECT_EQ(created.relabels, create.container.relabels);
  EXPECT_TRUE(created.open_stdin && created.stdin_once);
  EXPECT_EQ(created.log_path, "p");
  EXPECT_EQ(created.deadline_ms, 9);
  EXPECT_EQ(round_trip(wire::Start{"x", 8}).deadline_ms, 8);
  EXPECT_TRUE(round_trip(wire::Signal{"x", 15, true}).all);
  const auto checkpoint =
      round_trip(wire::Checkpoint{.id = "x", .bundle = "/b", .folder = "/f", .deadline_ms = 7});
  EXPECT_EQ(checkpoint.bundle, "/b");
  EXPECT_EQ(checkpoint.folder, "/f");
  EXPECT_EQ(checkpoint.deadline_ms, 7);
  EXPECT_TRUE(round_trip(wire::Exec{.id = "x", .terminal = true, .has_out = true}).has_out);
  EXPECT_EQ(round_trip(wire::KillExec{~0ULL, 9}).exec_id, ~0ULL);
  EXPECT_TRUE(round_trip(wire::Attach{"x", true, false, true}).has_err);
  EXPECT_EQ(round_trip(wire::Resize{"x", 65535, 1}).height, 65535);
  EXPECT_EQ(round_trip(wire::ReopenLog{"x"}).id, "x");
  EXPECT_EQ(round_trip(wire::Update{"x"}).id, "x");
  EXPECT_EQ(round_trip(wire::Remove{"x", 4}).deadline_ms, 4);
  round_trip(wire::List{});
  EXPECT_EQ(round_trip(wire::Shutdown{3}).deadline_ms, 3);
}

TEST(Messages, AnswersComeBackAsTheyWent) {
  auto there_and_back = [](wire::Answer answer) {
    auto reply = wire::decode_reply(wire::encode(answer));
    EXPECT_TRUE(reply.ok());
    return std::get<wire::Answer>(std::move(*reply));
  };
  const auto info = there_and_back({.id = 3, .outcome = wire::Outcome(sample())});
  EXPECT_EQ(info.id, 3U);
  EXPECT_EQ(std::get<ContainerInfo>(*info.outcome), sample());
  const auto list = there_and_back(
      {.id = 4, .outcome = wire::Outcome(std::vector<ContainerInfo>{sample(), sample()})});
  EXPECT_EQ(std::get<std::vector<ContainerInfo>>(*list.outcome).size(), 2U);
  const auto failed =
      there_and_back({.id = 5, .outcome = Error(Code::kDeadlineExceeded, "too \x01\xff late")});
  ASSERT_FALSE(failed.outcome.ok());
  EXPECT_EQ(failed.outcome.error().code(), Code::kDeadlineExceeded);
  EXPECT_THAT(failed.outcome.error().message(), HasSubstr("late"));
  const auto exec =
      there_and_back({.id = 6, .fds = 1, .outcome = wire::Outcome(wire::ExecAnswer{8, 9})});
  EXPECT_EQ(exec.fds, 1U);
  EXPECT_EQ(std::get<wire::ExecAnswer>(*exec.outcome).exec_id, 8U);
}

TEST(Messages, EventsComeBackAsTheyWent) {
  auto changed = wire::decode_reply(wire::encode(wire::Event{sample()}));
  ASSERT_TRUE(changed.ok());
  EXPECT_EQ(std::get<ContainerInfo>(std::get<wire::Event>(*changed).what), sample());
  auto exited = wire::decode_reply(wire::encode(wire::Event{wire::ExecExited{4, 5}}));
  ASSERT_TRUE(exited.ok());
  EXPECT_EQ(std::get<wire::ExecExited>(std::get<wire::Event>(*exited).what).exit_code, 5);
}

TEST(Messages, UnknownFieldsAreIgnoredAndAbsentOnesHaveDefaults) {
  const auto request =
      wire::decode_request(R"({"id":1,"verb":"start","container":"x","new":{"a":[1]}})");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(std::get<wire::Start>(request->verb).deadline_ms, wire::Start{}.deadline_ms);
}

TEST(Messages, WrongInputNamesTheField) {
  auto error = [](std::string_view json) {
    auto request = wire::decode_request(json);
    EXPECT_FALSE(request.ok()) << json;
    return request.ok() ? std::string() : request.error().message();
  };
  EXPECT_THAT(error("[]"), HasSubstr("object"));
  EXPECT_THAT(error("{"), HasSubstr("object"));
  EXPECT_THAT(error(R"({"id":-1,"verb":"list"})"), HasSubstr("request.id"));
  EXPECT_THAT(error(R"({"id":1.5,"verb":"list"})"), HasSubstr("request.id"));
  EXPECT_THAT(error(R"({"id":1,"verb":"fly"})"), HasSubstr("\"fly\""));
  EXPECT_THAT(error(R"({"id":1,"fds":17,"verb":"list"})"), HasSubstr("request.fds"));
  EXPECT_THAT(error(R"({"id":1,"verb":"resize","height":70000})"), HasSubstr("request.height"));
  EXPECT_THAT(error(R"({"id":1,"verb":"create","root":7})"), HasSubstr("create.root"));
  EXPECT_THAT(error(R"({"id":1,"verb":"make_sandbox","sysctls":[["a"]]})"), HasSubstr("sysctls"));
  EXPECT_THAT(error(R"({"id":1,"verb":"make_sandbox","runtime":{"path":"runc","root":"/r"}})"),
              HasSubstr("runtime.path"));
}

TEST(Records, ARuntimeProgramComesBackAsItWent) {
  const auto runtime = decode_runtime(encode_runtime(runc()));
  ASSERT_TRUE(runtime.ok());
  EXPECT_EQ(*runtime, runc());
  EXPECT_FALSE(decode_runtime(R"({"path":"/x","root":"here"})").ok());
  EXPECT_FALSE(decode_runtime("{").ok());
}

TEST(Records, ComeBackAsTheyWent) {
  const auto info = decode_record(encode_record(sample()));
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(*info, sample());
  EXPECT_FALSE(decode_record("{}").ok());
  const ProcessRecord process{.pid = 4,
                              .start_time = 5,
                              .boot_id = "b",
                              .cgroup_unified = "/u",
                              .cgroup_legacy = {{"pids", "/p"}},
                              .cgroup_unit = "fluyt-monitor-s.scope",
                              .cgroup_slice = "fluyt-monitors.slice"};
  EXPECT_EQ(*decode_process_record(encode(process)), process);
  EXPECT_FALSE(decode_process_record(R"({"pid":-1})").ok());
  constexpr auto kToCome = R"({"pid":0,"boot_id":"b"})";
  EXPECT_FALSE(decode_process_record(kToCome).ok());
  EXPECT_EQ(decode_process_record(kToCome, ToCome::kTaken)->boot_id, "b");
}

}  // namespace
}  // namespace fluyt::monitor
