#include <gtest/gtest.h>

#include <thread>

#include "engine/exec_table.h"
#include "engine/names.h"
#include "engine/sandbox_files.h"
#include "engine/spec_input.h"

namespace fluyt::engine {
namespace {

using Claims = Names<std::string>;

TEST(NamesTest, ASecondClaimJoinsTheFirst) {
  Claims names;
  EXPECT_EQ(names.claim("n", "1").kind, Claims::Claim::Kind::kMine);
  const auto second = names.claim("n", "2");
  ASSERT_EQ(second.kind, Claims::Claim::Kind::kUnderWay);
  names.settle("n", std::string("1"), Claims::Keep::kYes);
  EXPECT_EQ(*second.outcome.get(), "1");
  const auto third = names.claim("n", "3");
  EXPECT_EQ(third.kind, Claims::Claim::Kind::kTaken);
  EXPECT_EQ(third.holder, "1");
}

TEST(NamesTest, AFailureIsToldToWhoeverJoinedAndFreesTheName) {
  Claims names;
  names.claim("n", "1");
  const auto second = names.claim("n", "2");
  names.settle("n", Error(Code::kInternal, "no"), Claims::Keep::kNo);
  EXPECT_EQ(second.outcome.get().error().message(), "no");
  EXPECT_EQ(names.claim("n", "3").kind, Claims::Claim::Kind::kMine);
}

TEST(NamesTest, OnlyTheHolderReleases) {
  Claims names;
  names.hold("n", "1");
  names.release("n", "2");
  EXPECT_EQ(names.claim("n", "3").kind, Claims::Claim::Kind::kTaken);
  names.release("n", "1");
  EXPECT_EQ(names.claim("n", "3").kind, Claims::Claim::Kind::kMine);
}

// A remove that waited for the verb that makes the object may end before that verb settles.
TEST(NamesTest, ANameThatIsReleasedBeforeItIsSettledIsFree) {
  Claims names;
  names.claim("n", "1");
  const auto second = names.claim("n", "2");
  names.release("n", "2");
  names.release("n", "1");
  EXPECT_EQ(names.claim("n", "3").kind, Claims::Claim::Kind::kUnderWay);
  names.settle("n", std::string("1"), Claims::Keep::kYes);
  EXPECT_EQ(*second.outcome.get(), "1");
  EXPECT_EQ(names.claim("n", "4").kind, Claims::Claim::Kind::kMine);
}

TEST(ExecTableTest, AnExitThatComesFirstIsKept) {
  ExecTable table;
  const ExecTable::Starting starting(table, "s");
  table.exited("s", 4, 9);
  EXPECT_EQ(table.claim("s", 4)->wait(Deadline::after_ms(0)), 9);
}

TEST(ExecTableTest, AnExitThatNobodyIsToClaimIsForgotten) {
  ExecTable table;
  table.exited("s", 1, 9);
  {
    const ExecTable::Starting starting(table, "s");
    EXPECT_FALSE(table.claim("s", 1)->code());
    table.forget("s", 1);
    table.exited("s", 1, 9);  // told again
    table.exited("t", 2, 9);
  }
  const ExecTable::Starting other(table, "s");
  const ExecTable::Starting of_t(table, "t");
  EXPECT_FALSE(table.claim("s", 1)->code());
  EXPECT_FALSE(table.claim("t", 2)->code());
}

TEST(ExecTableTest, TheEndOfTheSandboxEndsTheWait) {
  ExecTable table;
  const auto wait = table.claim("s", 1);
  const auto other = table.claim("t", 1);
  std::thread ender([&] { table.end_all("s", 137); });
  EXPECT_EQ(wait->wait(Deadline::never()), 137);
  ender.join();
  EXPECT_FALSE(other->code());
}

TEST(SpecHost, HasTheDefaultProfileThatIsLoaded) {
  EXPECT_EQ(find_apparmor_default("nvidia_modprobe (enforce)\nfluyt-default (enforce)\n"),
            "fluyt-default");
  EXPECT_EQ(find_apparmor_default("fluyt-default//child (enforce)\nfluyt-default-2 (enforce)\n"),
            "");
  EXPECT_EQ(find_apparmor_default(""), "");
}

TEST(SandboxFiles, ResolvConfHoldsWhatWasAskedAlone) {
  EXPECT_EQ(resolv_conf({{"10.0.0.1", "10.0.0.2"}, {"a.b", "c"}, {"ndots:5"}}),
            "search a.b c\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:5\n");
}

TEST(SandboxFiles, HostsNamesThePodOnItsAddresses) {
  EXPECT_NE(pod_hosts("web-0", {"10.1.0.2"}).find("10.1.0.2\tweb-0\n"), std::string::npos);
}

}  // namespace
}  // namespace fluyt::engine
