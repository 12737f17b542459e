#include "guest/task/seccomp.h"

#include <gtest/gtest.h>

#include <cstddef>

namespace fluyt::guest {
namespace {

constexpr uint16_t kLoad = 0x20, kJumpEqual = 0x15, kReturn = 0x06, kReturnA = 0x16, kStore = 0x02,
                   kLoadCell = 0x60, kJump = 0x05, kDivX = 0x3c, kShiftLeft = 0x64, kMod = 0x94,
                   kLoadImmediate = 0x00;

Errno refused(std::vector<FilterInstruction> program) {
  return FilterChain::add(nullptr, program).error();
}

FilterInput call(int number, uint64_t first = 0) {
  FilterInput input;
  input.number = number;
  input.arch = 0xc000003e;
  input.args[0] = first;
  return input;
}

std::shared_ptr<const FilterChain> chain(std::vector<FilterInstruction> program,
                                         std::shared_ptr<const FilterChain> parent = nullptr) {
  auto made = FilterChain::add(std::move(parent), program);
  EXPECT_TRUE(made.ok());
  return made.ok() ? made.value() : nullptr;
}

TEST(FilterChain, TellsCallsApartByNumberAndArgument) {
  const auto filter = chain({{kLoad, 0, 0, 0},
                             {kJumpEqual, 0, 1, 39},
                             {kReturn, 0, 0, kFilterErrno | 7},
                             {kJumpEqual, 0, 3, 1},
                             {kLoad, 0, 0, offsetof(FilterInput, args)},
                             {kJumpEqual, 1, 0, 1},
                             {kReturn, 0, 0, kFilterKillProcess},
                             {kReturn, 0, 0, kFilterAllow}});
  EXPECT_EQ(filter->check(call(39)), kFilterErrno | 7);
  EXPECT_EQ(filter->check(call(1, 1)), kFilterAllow);
  EXPECT_EQ(filter->check(call(1, 2)), kFilterKillProcess);
  EXPECT_EQ(filter->check(call(400)), kFilterAllow);
  EXPECT_EQ(filter->check(call(-1)), kFilterAllow);
}

TEST(FilterChain, TheStrictestOfAllCounts) {
  auto lax = chain({{kReturn, 0, 0, kFilterErrno | 1}});
  const auto log = chain({{kReturn, 0, 0, kFilterLog}}, lax);
  EXPECT_EQ(log->check(call(1)), kFilterErrno | 1);
  const auto trap = chain({{kReturn, 0, 0, kFilterTrap | 3}}, log);
  EXPECT_EQ(trap->check(call(1)), kFilterTrap | 3);
  const auto kill = chain({{kReturn, 0, 0, kFilterKillProcess}}, trap);
  EXPECT_EQ(kill->check(call(1)), kFilterKillProcess);
  EXPECT_EQ(chain({{kReturn, 0, 0, kFilterKillThread}}, kill)->check(call(1)), kFilterKillProcess);
  EXPECT_TRUE(kill->descends_from(lax.get()));
  EXPECT_FALSE(lax->descends_from(kill.get()));
}

TEST(FilterChain, RefusesWhatTheKernelRefuses) {
  EXPECT_EQ(refused({}), Errno(EINVAL));
  EXPECT_EQ(refused({{kLoad, 0, 0, 0}}), Errno(EINVAL));                           // no end
  EXPECT_EQ(refused({{kLoad, 0, 0, 64}, {kReturn, 0, 0, 0}}), Errno(EINVAL));      // beyond
  EXPECT_EQ(refused({{kLoad, 0, 0, 2}, {kReturn, 0, 0, 0}}), Errno(EINVAL));       // odd
  EXPECT_EQ(refused({{kJump, 0, 0, 1}, {kReturn, 0, 0, 0}}), Errno(EINVAL));       // out
  EXPECT_EQ(refused({{kJump, 0, 0, ~0U}, {kReturn, 0, 0, 0}}), Errno(EINVAL));     // far out
  EXPECT_EQ(refused({{kJumpEqual, 0, 1, 0}, {kReturn, 0, 0, 0}}), Errno(EINVAL));  // half out
  EXPECT_EQ(refused({{kLoadCell, 0, 0, 3}, {kReturn, 0, 0, 0}}), Errno(EINVAL));   // never written
  EXPECT_EQ(refused({{kStore, 0, 0, 16}, {kReturn, 0, 0, 0}}), Errno(EINVAL));
  EXPECT_EQ(refused({{0x34, 0, 0, 0}, {kReturn, 0, 0, 0}}), Errno(EINVAL));  // by zero
  EXPECT_EQ(refused({{kShiftLeft, 0, 0, 32}, {kReturn, 0, 0, 0}}), Errno(EINVAL));
  EXPECT_EQ(refused({{kMod, 0, 0, 3}, {kReturn, 0, 0, 0}}), Errno(EINVAL));
  EXPECT_EQ(refused({{0xffff, 0, 0, 0}, {kReturn, 0, 0, 0}}), Errno(EINVAL));
  EXPECT_EQ(refused(std::vector<FilterInstruction>(4097, {kReturn, 0, 0, 0})), Errno(EINVAL));
  // Written on one way of two.
  EXPECT_EQ(
      refused(
          {{kJumpEqual, 0, 1, 0}, {kStore, 0, 0, 1}, {kLoadCell, 0, 0, 1}, {kReturnA, 0, 0, 0}}),
      Errno(EINVAL));
}

TEST(FilterChain, ADivisionByZeroKills) {
  const auto filter =
      chain({{kLoadImmediate, 0, 0, 8}, {kDivX, 0, 0, 0}, {kReturn, 0, 0, kFilterAllow}});
  EXPECT_EQ(filter->check(call(1)), kFilterKillThread);
}

TEST(FilterChain, GrowsToALimit) {
  std::shared_ptr<const FilterChain> at;
  std::vector<FilterInstruction> program(4096, {kLoadImmediate, 0, 0, 1});
  program.back() = {kReturn, 0, 0, kFilterAllow};
  int made = 0;
  for (; made < 20; ++made) {
    auto next = FilterChain::add(at, program);
    if (!next.ok()) {
      EXPECT_EQ(next.error(), Errno(ENOMEM));
      break;
    }
    at = next.value();
  }
  EXPECT_EQ(made, 7);
}

}  // namespace
}  // namespace fluyt::guest
