#include "runtime/caps/caps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace fluyt::runtime::caps {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr Set bit(int number) { return Set{1} << static_cast<unsigned>(number); }
constexpr int kChown = 0;
constexpr int kKill = 5;
constexpr int kNetBind = 10;
constexpr int kSysAdmin = 21;
constexpr Set kAll = (Set{1} << 41U) - 1;

Sets everything() {
  return {.bounding = kAll, .effective = kAll, .inheritable = 0, .permitted = kAll, .ambient = 0};
}

// Runs in a child, since capabilities do not come back. The child's status is the answer.
int in_child(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

bool root_with_all() {
  const auto last = last_cap();
  if (geteuid() != 0 || !last.ok()) return false;
  const auto sets = current(*last);
  return sets.ok() && (sets->permitted & bit(kSysAdmin)) != 0 &&
         (sets->permitted & bit(kNetBind)) != 0;
}

TEST(Names, GoBothWays) {
  for (int i = 0; i <= kLastNamed; ++i) EXPECT_EQ(find_number(name_of(i)), i);
  EXPECT_EQ(find_number("CAP_SYS_ADMIN"), kSysAdmin);
  EXPECT_EQ(find_number("SYS_ADMIN"), std::nullopt);
  EXPECT_EQ(find_number("cap_sys_admin"), std::nullopt);
  EXPECT_EQ(find_number(""), std::nullopt);
  EXPECT_EQ(name_of(63), "CAP_63");
  EXPECT_THAT(names_of(bit(kChown) | bit(kSysAdmin)), ElementsAre("CAP_CHOWN", "CAP_SYS_ADMIN"));
}

TEST(Resolve, UnknownAndTooNewAreWarnings) {
  const auto got =
      resolve({.bounding = {"CAP_CHOWN", "CAP_NONSENSE", "CAP_BPF"}}, everything(), 37);
  EXPECT_EQ(got.sets.bounding, bit(kChown));
  ASSERT_EQ(got.warnings.size(), 2U);
  EXPECT_THAT(got.warnings[0], HasSubstr("process.capabilities.bounding[1]: \"CAP_NONSENSE\""));
  EXPECT_THAT(got.warnings[1], HasSubstr("newer than the running kernel"));
}

TEST(Resolve, InheritableStaysEmptyUnlessAsked) {
  // CVE-2022-24769 and its kin: inheritable capabilities that nobody asked for.
  const auto got =
      resolve({.bounding = {"CAP_CHOWN"}, .effective = {"CAP_CHOWN"}, .permitted = {"CAP_CHOWN"}},
              everything(), kLastNamed);
  EXPECT_EQ(got.sets.inheritable, 0U);
  EXPECT_EQ(got.sets.ambient, 0U);
  EXPECT_THAT(got.warnings, IsEmpty());
}

TEST(Resolve, KeepsTheKernelsRules) {
  const auto got = resolve({.bounding = {"CAP_CHOWN"},
                            .effective = {"CAP_CHOWN", "CAP_KILL"},
                            .inheritable = {"CAP_CHOWN", "CAP_SYS_ADMIN"},
                            .permitted = {"CAP_CHOWN"},
                            .ambient = {"CAP_CHOWN", "CAP_KILL"}},
                           everything(), kLastNamed);
  EXPECT_EQ(got.sets.effective, bit(kChown));
  EXPECT_EQ(got.sets.inheritable, bit(kChown));
  EXPECT_EQ(got.sets.ambient, bit(kChown));
  ASSERT_EQ(got.warnings.size(), 3U);
  EXPECT_THAT(got.warnings[2], HasSubstr("can't raise ambient capability CAP_KILL: "));
}

TEST(Kernel, LastCapIsPlausible) {
  const auto last = last_cap();
  ASSERT_TRUE(last.ok()) << last.error().message();
  EXPECT_GE(*last, 37);
  EXPECT_LT(*last, 64);
}

TEST(Apply, SetsAreWhatWasAskedForAfterSetuid) {
  if (!root_with_all()) GTEST_SKIP() << "needs root with all capabilities";
  const int last = last_cap().value();
  const Sets wanted{.bounding = bit(kChown) | bit(kNetBind) | bit(kKill),
                    .effective = bit(kNetBind),
                    .inheritable = bit(kNetBind),
                    .permitted = bit(kNetBind) | bit(kKill),
                    .ambient = bit(kNetBind)};
  const int status = in_child([&] {
    if (!drop_bounding(wanted, last).ok()) return 1;
    if (!keep_over_setuid().ok()) return 2;
    if (setresgid(1000, 1000, 1000) != 0 || setresuid(1000, 1000, 1000) != 0) return 3;
    if (!apply(wanted).ok()) return 4;
    const auto got = current(last);
    return got.ok() && *got == wanted ? 0 : 5;
  });
  EXPECT_EQ(status, 0);
}

TEST(Apply, AmbientOfTheCallerDoesNotPass) {
  if (!root_with_all()) GTEST_SKIP() << "needs root with all capabilities";
  const int last = last_cap().value();
  const int status = in_child([&] {
    const Sets loose{.bounding = kAll,
                     .effective = kAll,
                     .inheritable = bit(kKill),
                     .permitted = bit(kKill) | bit(kChown),
                     .ambient = bit(kKill)};
    Sets first = loose;
    first.effective = first.permitted;
    if (!apply(first).ok()) return 1;
    if (!apply({.bounding = kAll,
                .effective = bit(kChown),
                .inheritable = 0,
                .permitted = bit(kChown),
                .ambient = 0})
             .ok())
      return 2;
    const auto got = current(last);
    return got.ok() && got->ambient == 0 && got->inheritable == 0 && got->permitted == bit(kChown)
               ? 0
               : 3;
  });
  EXPECT_EQ(status, 0);
}

TEST(Apply, WhatIsNotHeldIsAnError) {
  if (!root_with_all()) GTEST_SKIP() << "needs root with all capabilities";
  const int status = in_child([&] {
    if (!apply({.effective = bit(kChown), .permitted = bit(kChown)}).ok()) return 1;
    const auto again = apply({.effective = bit(kKill), .permitted = bit(kKill)});
    return !again.ok() && again.error().errno_value() == EPERM ? 0 : 2;
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace fluyt::runtime::caps
