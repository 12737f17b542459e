#include "runtime/hooks.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "runtime/container_test_box.h"

namespace fluyt::runtime {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

oci::Hook shell_hook(const std::string& script) {
  return {.path = "/bin/sh", .args = {"sh", "-c", script}, .env = {}, .timeout = {}};
}

TEST(Hooks, RunWhereTheyShould) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const std::string out = box.path("/hooks");
  // Each notes its mount namespace's root and the pid and status that it was told.
  auto hook = [&](const std::string& name) {
    return oci::Hook{
        .path = "/bin/sh",
        .args = {"sh", "-c", cat("grep -qE '\"pid\": ?[1-9]' && echo ", name, " $(pwd) >> ", out)},
        .env = {"PATH=/bin:/usr/bin"},
        .timeout = 10};
  };
  box.spec.hooks = oci::Hooks{};
  box.spec.hooks->create_runtime = {hook("createRuntime")};
  box.spec.hooks->create_container = {hook("createContainer")};
  box.spec.hooks->start_container = {{.path = "/bin/sh",
                                      .args = {"sh", "-c", "echo startContainer > /tmp/started"},
                                      .env = {},
                                      .timeout = {}}};
  const Outcome outcome = box.shell("cat /tmp/started");
  EXPECT_EQ(outcome.out, "startContainer\n") << outcome.error << outcome.err;
  EXPECT_EQ(*sys::read_file(out, 1000),
            cat("createRuntime ", box.path(""), "\ncreateContainer ", box.path("/rootfs"), "\n"));
  box.spec.hooks->create_runtime = {
      {.path = "/bin/false", .args = {"false"}, .env = {}, .timeout = {}}};
  EXPECT_THAT(box.run({"true"}).error,
              HasSubstr("error running createRuntime hook #0: hooks.createRuntime[0] "
                        "\"/bin/false\": exit status 1"));
}

TEST(Hooks, StartContainerInheritsTheContainersVariables) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.process->env = {"PATH=/bin", "SAIL=main"};
  box.spec.hooks = oci::Hooks{};
  const oci::Hook hook{.path = "/bin/sh",
                       .args = {"sh", "-c", "echo $SAIL $HOME >> /tmp/seen"},
                       .env = {},
                       .timeout = {}};
  box.spec.hooks->start_container = {hook, hook};
  box.spec.hooks->start_container[1].env = {"SAIL=jib"};
  EXPECT_EQ(box.run({"cat", "/tmp/seen"}).out, "main /root\njib\n");
}

TEST(Hooks, AreCalledWhatTheirArgumentsSay) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.hooks = oci::Hooks{};
  // A shell's complaint begins with what it was called.
  box.spec.hooks->create_runtime = {
      {.path = "/bin/sh", .args = {"set-key", "-c", "no-such"}, .env = {}, .timeout = {}}};
  EXPECT_THAT(box.run({"true"}).error, HasSubstr("set-key: "));
}

TEST(Hooks, CreateContainerSeesTheMountsAtTheRootsHostPath) {
  FLUYT_NEEDS_ROOT();
  Box box;
  box.spec.hooks = oci::Hooks{};
  box.spec.hooks->create_container = {shell_hook("test -e proc/self/status")};
  EXPECT_EQ(box.run({"true"}).error, "");
}

TEST(Hooks, WithoutAnEnvironmentHaveTheCallersOutsideAndNoneInside) {
  FLUYT_NEEDS_ROOT();
  Box box;
  ASSERT_EQ(setenv("FLUYT_SECRET", "rum", 1), 0);
  box.spec.hooks = oci::Hooks{};
  box.spec.hooks->create_runtime = {shell_hook("test \"$FLUYT_SECRET\" = rum")};
  box.spec.hooks->create_container = {shell_hook("test -z \"$FLUYT_SECRET\"")};
  box.spec.hooks->start_container = {shell_hook("test -z \"$FLUYT_SECRET\"")};
  EXPECT_EQ(box.run({"true"}).error, "");
  box.spec.hooks->start_container.clear();
  oci::Hook own = shell_hook("test -z \"$FLUYT_SECRET\" && test \"$OWN\" = 1");
  own.env = {"OWN=1"};
  box.spec.hooks->create_runtime = {own};
  EXPECT_EQ(box.run({"true"}).error, "");
  unsetenv("FLUYT_SECRET");
}

TEST(Hooks, OneThatFailsAtCreateIsFollowedByPoststop) {
  FLUYT_NEEDS_ROOT();
  Box box;
  const std::string out = box.path("/stopped");
  box.spec.hooks = oci::Hooks{};
  box.spec.hooks->create_runtime = {shell_hook("exit 3")};
  box.spec.hooks->poststop = {shell_hook("exit 4"),
                              shell_hook(cat("grep -o '\"status\": *\"stopped\"' > ", out))};
  const Outcome outcome = box.run({"true"});
  EXPECT_THAT(outcome.error, HasSubstr("hooks.createRuntime[0] \"/bin/sh\": exit status 3"));
  EXPECT_THAT(outcome.error, HasSubstr("; hooks.poststop[0] \"/bin/sh\": exit status 4"));
  EXPECT_THAT(*sys::read_file(out, 1000), HasSubstr("stopped"));
}

TEST(Hooks, AllOfThemRunWhereNoneMayStopTheRest) {
  const std::vector<std::string> failures =
      run_all_hooks({shell_hook("exit 1"), shell_hook("exit 0"), shell_hook("exit 2")}, "poststop",
                    "{}", {.cwd = "/no/such/folder"});
  EXPECT_THAT(failures, ElementsAre(HasSubstr("hooks.poststop[0]"), HasSubstr("exit status 2")));
}

TEST(Hooks, TimeoutEndsAllThatItStarted) {
  oci::Hook slow = shell_hook("sleep 30 & sleep 30");
  slow.timeout = 1;
  auto done = run_hooks({slow}, "prestart", "{}", {});
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), Code::kDeadlineExceeded);
  EXPECT_THAT(done.error().message(), HasSubstr("killed after its timeout of 1 s"));
}

}  // namespace
}  // namespace fluyt::runtime
