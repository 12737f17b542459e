#include "cmd/runtime/notify.h"

#include <gtest/gtest.h>

namespace fluyt::commands {
namespace {

TEST(NotifyRelay, PassesOnWhatMeansTheSameOutsideOfTheContainer) {
  EXPECT_EQ(allowed_lines("READY=1\nSTATUS=up, 3 clients\nMAINPID=7\nWATCHDOG=1"),
            "READY=1\nSTATUS=up, 3 clients\nWATCHDOG=1\n");
  EXPECT_EQ(allowed_lines("EXTEND_TIMEOUT_USEC=5\nMONOTONIC_USEC=9\nERRNO=2\nBUSERROR=a.b\n"),
            "EXTEND_TIMEOUT_USEC=5\nMONOTONIC_USEC=9\nERRNO=2\nBUSERROR=a.b\n");
  EXPECT_EQ(allowed_lines("RELOADING=1\nSTOPPING=1\n"), "RELOADING=1\nSTOPPING=1\n");
}

TEST(NotifyRelay, KeepsBackWhatIsAboutPidsDescriptorsAndOtherUnits) {
  for (const char* line :
       {"MAINPID=1", "MAINPIDFDID=3", "FDSTORE=1\nFDNAME=x", "BARRIER=1", "WATCHDOG=trigger",
        "WATCHDOG_USEC=1", "NOTIFYACCESS=all", "READY=0", " READY=1", "READY", "=", "", "\n\n"})
    EXPECT_EQ(allowed_lines(line), "") << line;
}

TEST(NotifyRelay, ReadyIsALineOfItsOwn) {
  EXPECT_TRUE(says_ready("STATUS=x\nREADY=1"));
  EXPECT_FALSE(says_ready("STATUS=READY=1"));
  EXPECT_FALSE(says_ready("READY=10\n"));
  EXPECT_FALSE(says_ready(""));
}

}  // namespace
}  // namespace fluyt::commands
