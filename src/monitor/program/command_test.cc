#include "monitor/program/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fluyt::monitor {
namespace {

using testing::ElementsAre;

const RuntimeProgram kRunc{.path = "/usr/sbin/runc", .options = {}, .root = "/run/r"};
const RuntimeProgram kRunsc{
    .path = "/opt/runsc", .options = {"--platform", "systrap"}, .root = "/run/g"};

TEST(Commands, CreateNamesBundleAndPidFile) {
  EXPECT_THAT(create_command(kRunc, {.log = "/l", .pid = "/p", .console_socket = ""}, "c1", "/b"),
              ElementsAre("/usr/sbin/runc", "--root", "/run/r", "--log", "/l", "--log-format",
                          "json", "create", "--bundle", "/b", "--pid-file", "/p", "c1"));
}

TEST(Commands, OptionsOfTheProgramComeFirst) {
  EXPECT_THAT(create_command(kRunsc, {.log = "/l", .pid = "/p", .console_socket = "/s"}, "c", "/b"),
              ElementsAre("/opt/runsc", "--platform", "systrap", "--root", "/run/g", "--log", "/l",
                          "--log-format", "json", "create", "--bundle", "/b", "--pid-file", "/p",
                          "--console-socket", "/s", "c"));
}

TEST(Commands, SystemdMakesTheCgroupsOfEveryCall) {
  RuntimeProgram program = kRunc;
  program.systemd_cgroup = true;
  EXPECT_THAT(start_command(program, {}, "c"),
              ElementsAre("/usr/sbin/runc", "--root", "/run/r", "--systemd-cgroup", "start", "c"));
}

TEST(Commands, ExecIsDetachedAndReadsItsProcessFromAFile) {
  EXPECT_THAT(exec_command(kRunc, {.log = "/l", .pid = "/p", .console_socket = "/s"}, "c", "/x"),
              ElementsAre("/usr/sbin/runc", "--root", "/run/r", "--log", "/l", "--log-format",
                          "json", "exec", "--process", "/x", "--detach", "--pid-file", "/p",
                          "--console-socket", "/s", "c"));
}

TEST(Commands, TheShortOnes) {
  const CallFiles none;
  EXPECT_THAT(start_command(kRunc, none, "c"),
              ElementsAre("/usr/sbin/runc", "--root", "/run/r", "start", "c"));
  EXPECT_THAT(kill_command(kRunc, none, "c", 15),
              ElementsAre("/usr/sbin/runc", "--root", "/run/r", "kill", "c", "15"));
  EXPECT_THAT(
      update_command(kRunc, none, "c", "/f"),
      ElementsAre("/usr/sbin/runc", "--root", "/run/r", "update", "--resources", "/f", "c"));
  EXPECT_THAT(delete_command(kRunc, none, "c"),
              ElementsAre("/usr/sbin/runc", "--root", "/run/r", "delete", "--force", "c"));
}

}  // namespace
}  // namespace fluyt::monitor
