#include "guest/sandbox/text.h"

#include <gtest/gtest.h>

namespace fluyt::guest {
namespace {

ProgramRequest some_program() {
  ProgramRequest out;
  out.arguments = {"/bin/sh", "-c", "echo \"a\nb\"", "\xff\xfe not text"};
  out.environment = {"PATH=/bin", "X=\xc3\xa4"};
  out.working_directory = "/home";
  out.credentials.uid = 1000;
  out.credentials.fsgid = 7;
  out.credentials.groups = {4, 20};
  out.credentials.bounding = 0xa80425fb;
  out.umask = 027;
  out.limits[7] = {1024, ~uint64_t{0}};
  out.no_new_privileges = true;
  out.filter = {0, ~uint64_t{0}, 0x7fff000000000006};
  return out;
}

void expect_same(const ProgramRequest& a, const ProgramRequest& b) {
  EXPECT_EQ(a.arguments, b.arguments);
  EXPECT_EQ(a.environment, b.environment);
  EXPECT_EQ(a.working_directory, b.working_directory);
  EXPECT_EQ(a.credentials.uid, b.credentials.uid);
  EXPECT_EQ(a.credentials.fsgid, b.credentials.fsgid);
  EXPECT_EQ(a.credentials.groups, b.credentials.groups);
  EXPECT_EQ(a.credentials.bounding, b.credentials.bounding);
  EXPECT_EQ(a.credentials.permitted, b.credentials.permitted);
  EXPECT_EQ(a.umask, b.umask);
  EXPECT_EQ(a.limits, b.limits);
  EXPECT_EQ(a.no_new_privileges, b.no_new_privileges);
  EXPECT_EQ(a.filter, b.filter);
}

TEST(SandboxText, AProgramComesBackAsItWent) {
  const ProgramRequest request = some_program();
  auto back = parse_program(to_text(request));
  ASSERT_TRUE(back.ok()) << back.error().message();
  expect_same(request, *back);
}

TEST(SandboxText, ASandboxComesBackAsItWent) {
  SandboxRequest request;
  request.program = some_program();
  request.root = "/a \"root\"";
  request.host_name = "box";
  request.mounts = {
      {.kind = SandboxMount::Kind::kProc, .path = "/proc", .mode = 0, .read_only = true},
      {.kind = SandboxMount::Kind::kDevPts, .path = "/dev/pts", .mode = 01777},
      {.path = "/dev/shm", .data = "size=64k"}};
  request.masked_paths = {"/proc/kcore"};
  request.read_only_paths = {"/proc/sys", "/proc/bus"};
  request.max_tasks = 17;
  request.strace = true;
  request.init_is_spared = false;
  request.holds_pod = true;
  request.memory_limit_bytes = uint64_t{1} << 40;
  request.network = SandboxNetwork::kHost;
  auto back = parse_sandbox(to_text(request));
  ASSERT_TRUE(back.ok()) << back.error().message();
  expect_same(request.program, back->program);
  EXPECT_EQ(request.root, back->root);
  EXPECT_EQ(request.host_name, back->host_name);
  EXPECT_EQ(request.max_tasks, back->max_tasks);
  EXPECT_TRUE(back->strace);
  EXPECT_FALSE(back->init_is_spared);
  EXPECT_TRUE(back->holds_pod);
  EXPECT_EQ(back->memory_limit_bytes, request.memory_limit_bytes);
  EXPECT_EQ(back->network, SandboxNetwork::kHost);
  EXPECT_EQ(request.masked_paths, back->masked_paths);
  EXPECT_EQ(request.read_only_paths, back->read_only_paths);
  ASSERT_EQ(back->mounts.size(), 3U);
  EXPECT_EQ(back->mounts[0].path, "/proc");
  EXPECT_TRUE(back->mounts[0].read_only);
  EXPECT_EQ(back->mounts[1].kind, SandboxMount::Kind::kDevPts);
  EXPECT_EQ(back->mounts[1].mode, 01777U);
  EXPECT_EQ(back->mounts[2].data, "size=64k");
}

TEST(SandboxText, SurroundingsComeBackAsTheyWent) {
  const Surroundings around{.mounts = "1 0 0:1 / /\\040x\xff rw - a b c\n",
                            .pid_namespace = 4026531836,
                            .ipc_namespace = 7,
                            .uts_namespace = ~uint64_t{0},
                            .host_name = "box",
                            .domain_name = "(none)"};
  auto back = parse_surroundings(to_text(around));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->mounts, around.mounts);
  EXPECT_EQ(back->pid_namespace, around.pid_namespace);
  EXPECT_EQ(back->ipc_namespace, around.ipc_namespace);
  EXPECT_EQ(back->uts_namespace, around.uts_namespace);
  EXPECT_EQ(back->host_name, around.host_name);
  EXPECT_EQ(back->domain_name, around.domain_name);
}

TEST(SandboxText, WhatIsNoRequestIsRefused) {
  for (const char* text : {"", "{", "[]", "{}", "{\"arguments\":1}", "{\"arguments\":[[300]]}"}) {
    auto back = parse_program(text);
    ASSERT_FALSE(back.ok()) << text;
    EXPECT_EQ(back.error().code(), Code::kInvalidArgument);
    EXPECT_FALSE(parse_sandbox(text).ok()) << text;
    EXPECT_FALSE(parse_surroundings(text).ok()) << text;
  }
}

}  // namespace
}  // namespace fluyt::guest
