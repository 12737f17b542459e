#include "engine/usage.h"

#include <gtest/gtest.h>

#include "engine/cpu_rates.h"

namespace fluyt::engine {
namespace {

namespace cgroup = runtime::cgroup;

TEST(Usage, HasWhatTheCgroupCounts) {
  cgroup::Stats stats;
  stats.cpu = cgroup::CpuStats{};
  stats.cpu->usage_ns = 5;
  stats.memory = cgroup::MemoryStats{};
  stats.memory->usage_bytes = 100;
  stats.memory->working_set_bytes = 80;
  stats.memory->swap_usage_bytes = 30;
  stats.memory->swap_limit_bytes = 50;
  stats.pids = cgroup::PidsStats{.current = 3, .limit = {}};
  stats.io_pressure = cgroup::Pressure{};
  stats.io_pressure->some = {.avg10 = 1.5, .avg60 = 2, .avg300 = 3, .total_us = 7};
  const Usage usage = usage_of(stats, 42);
  EXPECT_EQ(usage.timestamp, 42);
  EXPECT_EQ(usage.cpu_usage_ns, 5U);
  EXPECT_EQ(usage.memory_working_set_bytes, 80U);
  EXPECT_EQ(usage.memory_limit_bytes, std::nullopt);
  EXPECT_EQ(usage.swap_usage_bytes, 30U);
  EXPECT_EQ(usage.swap_available_bytes, 20U);
  EXPECT_EQ(usage.process_count, 3U);
  ASSERT_TRUE(usage.io_pressure);
  EXPECT_EQ(usage.io_pressure->some.total_ns, 7000U);
  EXPECT_DOUBLE_EQ(usage.io_pressure->some.avg10, 1.5);
  EXPECT_FALSE(usage.cpu_pressure);
}

TEST(Usage, SwapThatIsOverItsLimitLeavesNothing) {
  cgroup::Stats stats;
  stats.memory = cgroup::MemoryStats{};
  stats.memory->swap_usage_bytes = 51;
  stats.memory->swap_limit_bytes = 50;
  EXPECT_EQ(usage_of(stats, 1).swap_available_bytes, 0U);
  stats.memory->swap_limit_bytes = std::nullopt;
  EXPECT_EQ(usage_of(stats, 1).swap_available_bytes, std::nullopt);
}

TEST(Usage, OfAPodWithoutACgroupIsItsContainersTogether) {
  ContainerStats one;
  one.usage.cpu_usage_ns = 5;
  one.usage.memory_usage_bytes = 10;
  ContainerStats other;
  other.usage.cpu_usage_ns = 7;
  const Usage sum = sum_of({one, other}, 1);
  EXPECT_EQ(sum.cpu_usage_ns, 12U);
  EXPECT_EQ(sum.memory_usage_bytes, 10U);
  EXPECT_EQ(sum.process_count, std::nullopt);
}

Sandbox with_parent(const std::string& parent, CgroupDriver driver) {
  Sandbox sandbox;
  sandbox.config.cgroup_parent = parent;
  sandbox.cgroup_driver = driver;
  return sandbox;
}

TEST(PodCgroup, IsWhereTheCallerPutIt) {
  cgroup::Host host;
  host.unified = "/sys/fs/cgroup";
  const auto own = pod_cgroup(host, with_parent("/kubepods/pod1", CgroupDriver::kCgroupfs));
  ASSERT_TRUE(own.ok() && *own);
  EXPECT_EQ((**own).unified, "/sys/fs/cgroup/kubepods/pod1");
  EXPECT_FALSE(*pod_cgroup(host, with_parent("", CgroupDriver::kSystemd)));
  EXPECT_FALSE(pod_cgroup(host, with_parent("/../x", CgroupDriver::kCgroupfs)).ok());
  const auto slice = pod_cgroup(host, with_parent("kube-pod1.slice", CgroupDriver::kSystemd));
  ASSERT_TRUE(slice.ok() && *slice);
  EXPECT_TRUE((*slice)->unified.ends_with("/kube.slice/kube-pod1.slice"));
  EXPECT_FALSE((*slice)->unit) << "read, never made or removed";
}

TEST(LeaveOutHolder, CountsTheContainersProcessesAlone) {
  runtime::cgroup::Stats stats;
  stats.pids = runtime::cgroup::PidsStats{.current = 3, .limit = {}};
  leave_out_holder({.unified = "/c", .legacy = {}, .holder = 0}, stats);
  EXPECT_EQ(stats.pids->current, 3U);
  leave_out_holder({.unified = "/c", .legacy = {}, .holder = 77}, stats);
  EXPECT_EQ(stats.pids->current, 2U);
}

constexpr int64_t kSecond = 1'000'000'000;

TEST(CpuRates, AreOverTheTimeBetweenTwoReadings) {
  CpuRates rates;
  EXPECT_EQ(rates.update("c", 0, 0), std::nullopt);
  EXPECT_EQ(rates.update("c", 10 * kSecond, 5'000'000'000), 500'000'000U);
  EXPECT_EQ(rates.update("c", 12 * kSecond, 9'000'000'000), 2'000'000'000U);
}

TEST(CpuRates, AReadingRightAfterAnotherMakesNoNoise) {
  CpuRates rates;
  rates.update("c", 0, 0);
  rates.update("c", 10 * kSecond, 5'000'000'000);
  EXPECT_EQ(rates.update("c", 10 * kSecond + 1000, 5'000'001'000), 500'000'000U);
  EXPECT_EQ(rates.update("c", 20 * kSecond, 5'000'000'000), 0U);
}

TEST(CpuRates, BeginAnewWithANewCgroupOrClock) {
  CpuRates rates;
  rates.update("c", 5 * kSecond, 1000);
  EXPECT_EQ(rates.update("c", 10 * kSecond, 10), std::nullopt);
  EXPECT_EQ(rates.update("c", 2 * kSecond, 20), std::nullopt);
  rates.forget("c");
  EXPECT_EQ(rates.update("c", 30 * kSecond, 30), std::nullopt);
}

}  // namespace
}  // namespace fluyt::engine
