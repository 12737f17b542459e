#include "engine/layer_usage.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace fluyt::engine {
namespace {

DiskUsage used(uint64_t bytes) {
  DiskUsage out;
  out.timestamp = 1;
  out.used_bytes = bytes;
  return out;
}

TEST(LayerUsage, TheFirstFindingIsWaitedFor) {
  LayerUsage usage([](const std::string& id) -> Result<DiskUsage> { return used(id.size()); });
  const auto got = usage.get({"a", "bb"}, Deadline::after_ms(5000));
  ASSERT_EQ(got.size(), 2U);
  EXPECT_EQ(got.at("bb").used_bytes, 2U);
}

TEST(LayerUsage, AskingAgainAtOnceWalksNoTree) {
  std::atomic<int> walks{0};
  LayerUsage usage([&](const std::string&) -> Result<DiskUsage> {
    ++walks;
    return used(7);
  });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(usage.get({"a"}, Deadline::after_ms(5000)).at("a").used_bytes, 7U);
  }
  EXPECT_EQ(walks, 1);
}

TEST(LayerUsage, AWalkThatHangsHoldsNobodyUp) {
  std::atomic<bool> go{false};
  LayerUsage usage([&](const std::string&) -> Result<DiskUsage> {
    while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return used(7);
  });
  const int64_t began = now_boot_ns();
  EXPECT_TRUE(usage.get({"a"}, Deadline::after_ms(20)).empty());
  EXPECT_LT(now_boot_ns() - began, 2'000'000'000);
  go = true;
  EXPECT_EQ(usage.get({"a"}, Deadline::after_ms(5000)).size(), 1U);
}

TEST(LayerUsage, OneThatCannotBeMeasuredIsLeftOut) {
  LayerUsage usage([](const std::string&) -> Result<DiskUsage> {
    return Error(Code::kNotFound, "no such root");
  });
  EXPECT_TRUE(usage.get({"a"}, Deadline::after_ms(5000)).empty());
  usage.forget("a");
}

TEST(LayerUsage, AnIncompleteWalkTakesNothingFromTheLastFinding) {
  DiskUsage part = used(40);
  part.timestamp = 2;
  part.inodes = 9;
  part.complete = false;
  LayerFinding finding = after_walk({}, used(100), 0, 1);
  finding = after_walk(finding, part, 1, 2);
  EXPECT_EQ(finding.last->used_bytes, 100U);
  EXPECT_EQ(finding.last->inodes, 9U);
  EXPECT_EQ(finding.last->timestamp, 2);
  part.used_bytes = 300;
  finding = after_walk(finding, part, 2, 3);
  EXPECT_EQ(finding.last->used_bytes, 300U);
  finding = after_walk(finding, used(40), 3, 4);
  EXPECT_EQ(finding.last->used_bytes, 40U) << "a complete one says what there is";
  EXPECT_EQ(after_walk(finding, std::nullopt, 4, 5).last->used_bytes, 40U);
}

TEST(LayerUsage, AnIncompleteWalkIsRepeatedSoonAFewTimes) {
  constexpr int64_t kSecond = 1'000'000'000;
  DiskUsage part = used(40);
  part.complete = false;
  LayerFinding finding;
  for (int again = 0; again < 3; ++again) {
    finding = after_walk(finding, part, 0, 0);
    EXPECT_EQ(finding.next_at, kSecond);
  }
  finding = after_walk(finding, part, 0, 0);
  EXPECT_EQ(finding.next_at, 10 * kSecond);
  finding = after_walk(finding, used(40), 0, 0);
  EXPECT_EQ(finding.next_at, 10 * kSecond);
  finding = after_walk(finding, part, 0, kSecond);
  EXPECT_EQ(finding.next_at, 21 * kSecond) << "a long one is paid for all the same";
}

}  // namespace
}  // namespace fluyt::engine
