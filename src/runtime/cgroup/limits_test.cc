#include "runtime/cgroup/limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace fluyt::runtime::cgroup {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Layout legacy() {
  Layout out;
  for (const char* name :
       {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma"}) {
    out.legacy.emplace_back(name, cat("/", name));
  }
  return out;
}

Layout unified() {
  return {.unified = "/v2",
          .unified_controllers = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"}};
}

/// "/memory/memory.limit_in_bytes=5", ... or the error.
std::vector<std::string> plan(const Layout& layout, const oci::Resources& resources) {
  const auto writes = plan_limits(layout, resources);
  if (!writes.ok()) return {writes.error().message()};
  std::vector<std::string> out;
  for (const Write& write : *writes)
    out.push_back(cat(write.directory, "/", write.file, "=", write.value));
  return out;
}

oci::Resources memory(oci::MemoryResources memory) { return {.memory = std::move(memory)}; }
oci::Resources cpu(oci::CpuResources cpu) { return {.cpu = std::move(cpu)}; }

TEST(Shares, MapAsRuncDoes) {
  EXPECT_EQ(weight_of_shares(0), 0U);
  EXPECT_EQ(weight_of_shares(1), 1U);
  EXPECT_EQ(weight_of_shares(2), 1U);
  EXPECT_EQ(weight_of_shares(1024), 100U);
  EXPECT_EQ(weight_of_shares(262144), 10000U);
  EXPECT_EQ(weight_of_shares(UINT64_MAX), 10000U);
  EXPECT_EQ(weight_of_shares(10), 4U);
  EXPECT_EQ(weight_of_shares(500), 58U);
  uint64_t before = 0;
  for (uint64_t shares = 1; shares < 270'000; shares += 7) {
    EXPECT_GE(weight_of_shares(shares), before);
    before = weight_of_shares(shares);
  }
}

TEST(IoWeight, MapsTheWholeRange) {
  EXPECT_EQ(io_weight_of(10), 1U);
  EXPECT_EQ(io_weight_of(1000), 10000U);
  EXPECT_EQ(io_weight_of(0), 1U);
}

TEST(Memory, LegacyOrderKeepsLimitBelowMemsw) {
  Layout at = legacy();
  // A new cgroup has no limit: the limit first, then the sum above it.
  EXPECT_THAT(
      plan(at, memory({.limit = 100, .swap = 200})),
      ElementsAre("/memory/memory.limit_in_bytes=100", "/memory/memory.memsw.limit_in_bytes=200"));
  // Upwards the sum goes first, downwards the limit.
  at.current.memory_limit = 50;
  EXPECT_THAT(
      plan(at, memory({.limit = 100, .swap = 200})),
      ElementsAre("/memory/memory.memsw.limit_in_bytes=200", "/memory/memory.limit_in_bytes=100"));
  at.current.memory_limit = 500;
  EXPECT_THAT(
      plan(at, memory({.limit = 100, .swap = 200})),
      ElementsAre("/memory/memory.limit_in_bytes=100", "/memory/memory.memsw.limit_in_bytes=200"));
  // Without a limit there is none on the sum either, and that goes first.
  EXPECT_THAT(plan(at, memory({.limit = -1})), ElementsAre("/memory/memory.memsw.limit_in_bytes=-1",
                                                           "/memory/memory.limit_in_bytes=-1"));
}

TEST(Memory, LegacyHasTheRest) {
  EXPECT_THAT(
      plan(legacy(), memory({.reservation = 7,
                             .kernel = 8,
                             .kernel_tcp = 9,
                             .swappiness = 60,
                             .disable_oom_killer = true})),
      ElementsAre("/memory/memory.soft_limit_in_bytes=7", "/memory/memory.kmem.limit_in_bytes=8",
                  "/memory/memory.kmem.tcp.limit_in_bytes=9", "/memory/memory.oom_control=1",
                  "/memory/memory.swappiness=60"));
  EXPECT_THAT(plan(legacy(), memory({.swappiness = 101})),
              ElementsAre("linux.resources.memory.swappiness: 101: expected 0 to 100"));
}

TEST(Memory, UnifiedCountsSwapAlone) {
  EXPECT_THAT(plan(unified(), memory({.limit = 100, .reservation = 50, .swap = 250})),
              ElementsAre("/v2/memory.swap.max=150", "/v2/memory.max=100", "/v2/memory.low=50"));
  EXPECT_THAT(plan(unified(), memory({.limit = 100, .swap = -1})),
              ElementsAre("/v2/memory.swap.max=max", "/v2/memory.max=100"));
  EXPECT_THAT(plan(unified(), memory({.limit = -1})),
              ElementsAre("/v2/memory.swap.max=max", "/v2/memory.max=max"));
  Layout at = unified();
  at.current.memory_limit = 60;
  EXPECT_THAT(plan(at, memory({.swap = 100})), ElementsAre("/v2/memory.swap.max=40"));
}

TEST(Memory, UnifiedKeepsTheSumWhenTheLimitChangesAlone) {
  Layout at = unified();
  at.current.memory_limit = 100;
  at.current.swap_limit = 100;
  EXPECT_THAT(plan(at, memory({.limit = 150})),
              ElementsAre("/v2/memory.swap.max=50", "/v2/memory.max=150"));
  // Nobody said that it is to stay below.
  EXPECT_THAT(plan(at, memory({.limit = 300})), ElementsAre("/v2/memory.max=300"));
  oci::Resources by_file = memory({.limit = 150});
  by_file.unified["memory.swap.max"] = "7";
  EXPECT_THAT(plan(at, by_file), ElementsAre("/v2/memory.max=150", "/v2/memory.swap.max=7"));
  // Nothing was said of swap, or that there is none.
  at.current.swap_limit = -1;
  EXPECT_THAT(plan(at, memory({.limit = 150})), ElementsAre("/v2/memory.max=150"));
  at.current.swap_limit = 0;
  EXPECT_THAT(plan(at, memory({.limit = 150})), ElementsAre("/v2/memory.max=150"));
}

TEST(Memory, WhatCannotBeIsAnErrorWithTheField) {
  EXPECT_THAT(
      plan(unified(), memory({.limit = 100, .swap = 50})),
      ElementsAre(HasSubstr(
          "linux.resources.memory.swap: 50: memory and swap together are below memory.limit 100")));
  EXPECT_THAT(plan(legacy(), memory({.limit = 100, .swap = 50})),
              ElementsAre(HasSubstr("linux.resources.memory.swap: 50")));
  EXPECT_THAT(plan(unified(), memory({.swap = 50})), ElementsAre(HasSubstr("needs memory.limit")));
  EXPECT_THAT(plan(unified(), memory({.swappiness = 1})),
              ElementsAre("linux.resources.memory.swappiness: cgroup v2 has no such setting"));
  EXPECT_THAT(plan(unified(), memory({.disable_oom_killer = true})),
              ElementsAre(HasSubstr("memory.disableOOMKiller")));
}

TEST(Memory, CheckBeforeUpdateRefusesWhatDoesNotFit) {
  Layout at = unified();
  at.current.memory_usage = 101;
  EXPECT_THAT(plan(at, memory({.limit = 100, .check_before_update = true})),
              ElementsAre(HasSubstr("memory.limit: rejecting memory limit 100: the container uses "
                                    "101 bytes already")));
  EXPECT_THAT(plan(at, memory({.limit = 50, .swap = 100, .check_before_update = true})),
              ElementsAre(HasSubstr("memory.swap: rejecting memory+swap limit 100: ")));
  EXPECT_THAT(plan(at, memory({.limit = 100})), ElementsAre("/v2/memory.max=100"));
}

TEST(Memory, ZeroIsUnset) {
  EXPECT_THAT(plan(unified(), memory({.limit = 0, .reservation = 0, .swap = 0})), IsEmpty());
  EXPECT_THAT(plan(Layout{}, memory({.limit = 0})), IsEmpty())
      << "nothing is asked of the missing controller";
}

TEST(Cpu, Legacy) {
  EXPECT_THAT(plan(legacy(), cpu({.shares = 512,
                                  .quota = 50'000,
                                  .burst = 1000,
                                  .period = 100'000,
                                  .realtime_runtime = 5,
                                  .realtime_period = 6,
                                  .cpus = "0-1",
                                  .mems = "0",
                                  .idle = 1})),
              ElementsAre("/cpu/cpu.shares=512", "/cpu/cpu.idle=1", "/cpu/cpu.rt_period_us=6",
                          "/cpu/cpu.rt_runtime_us=5", "/cpu/cpu.cfs_period_us=100000",
                          "/cpu/cpu.cfs_quota_us=50000", "/cpu/cpu.cfs_burst_us=1000",
                          "/cpuset/cpuset.cpus=0-1", "/cpuset/cpuset.mems=0"));
  EXPECT_THAT(plan(legacy(), cpu({.quota = -1})), ElementsAre("/cpu/cpu.cfs_quota_us=-1"));
}

TEST(Cpu, UnifiedKeepsTheHalfThatIsNotGiven) {
  EXPECT_THAT(plan(unified(), cpu({.shares = 1024, .quota = 50'000, .period = 200'000})),
              ElementsAre("/v2/cpu.weight=100", "/v2/cpu.max=50000 200000"));
  Layout at = unified();
  at.current.cpu_max = "70000 150000\n";
  EXPECT_THAT(plan(at, cpu({.quota = 50'000})), ElementsAre("/v2/cpu.max=50000 150000"));
  EXPECT_THAT(plan(at, cpu({.period = 90'000})), ElementsAre("/v2/cpu.max=70000 90000"));
  EXPECT_THAT(plan(at, cpu({.quota = -1})), ElementsAre("/v2/cpu.max=max 150000"));
  EXPECT_THAT(plan(unified(), cpu({.quota = 50'000})), ElementsAre("/v2/cpu.max=50000 100000"));
  EXPECT_THAT(plan(unified(), cpu({.realtime_runtime = 5})),
              ElementsAre(HasSubstr("cpu.realtimeRuntime: cgroup v2 has no")));
}

TEST(Pids, ZeroIsARealLimit) {
  EXPECT_THAT(plan(unified(), {.pids_limit = 0}), ElementsAre("/v2/pids.max=1"));
  EXPECT_THAT(plan(legacy(), {.pids_limit = 0}), ElementsAre("/pids/pids.max=1"));
  EXPECT_THAT(plan(legacy(), {.pids_limit = -1}), ElementsAre("/pids/pids.max=max"));
}

TEST(BlockIo, BothHierarchies) {
  const oci::Resources asked{
      .block_io = oci::BlockIoResources{
          .weight = 500,
          .weight_device = {{.major = 8, .minor = 0, .weight = 10}},
          .throttle_read_bps_device = {{.major = 8, .minor = 0, .rate = 1024}},
          .throttle_write_iops_device = {{.major = 8, .minor = 16, .rate = 0}}}};
  EXPECT_THAT(plan(legacy(), asked),
              ElementsAre("/blkio/blkio.weight=500", "/blkio/blkio.weight_device=8:0 10",
                          "/blkio/blkio.throttle.read_bps_device=8:0 1024",
                          "/blkio/blkio.throttle.write_iops_device=8:16 0"));
  EXPECT_THAT(plan(unified(), asked),
              ElementsAre("/v2/io.weight=default 4950", "/v2/io.weight=8:0 1",
                          "/v2/io.max=8:0 rbps=1024", "/v2/io.max=8:16 wiops=max"));
  Layout bfq = unified();
  bfq.bfq = true;
  EXPECT_THAT(plan(bfq, {.block_io = oci::BlockIoResources{.weight = 500}}),
              ElementsAre("/v2/io.bfq.weight=default 500"));
  EXPECT_THAT(plan(unified(), {.block_io = oci::BlockIoResources{.leaf_weight = 500}}),
              ElementsAre(HasSubstr("blockIO.leafWeight")));
}

TEST(Hugepages, ReservationFirst) {
  const oci::Resources asked{.hugepage_limits = {{.page_size = "2MB", .limit = 4096}}};
  EXPECT_THAT(plan(unified(), asked),
              ElementsAre("/v2/hugetlb.2MB.rsvd.max=4096", "/v2/hugetlb.2MB.max=4096"));
  EXPECT_THAT(plan(legacy(), asked), ElementsAre("/hugetlb/hugetlb.2MB.rsvd.limit_in_bytes=4096",
                                                 "/hugetlb/hugetlb.2MB.limit_in_bytes=4096"));
  EXPECT_THAT(plan(unified(), {.hugepage_limits = {{.page_size = "../2MB"}}}),
              ElementsAre(HasSubstr("hugepageLimits[0].pageSize: \"../2MB\"")));
}

TEST(Others, NetworkAndRdma) {
  EXPECT_THAT(
      plan(legacy(),
           {.network = oci::NetworkResources{.class_id = 7,
                                             .priorities = {{.name = "lo", .priority = 3}}}}),
      ElementsAre("/net_cls/net_cls.classid=7", "/net_prio/net_prio.ifpriomap=lo 3"));
  EXPECT_THAT(plan(unified(), {.rdma = {{"mlx5_0", {.hca_handles = 2, .hca_objects = 3}}}}),
              ElementsAre("/v2/rdma.max=mlx5_0 hca_handle=2 hca_object=3"));
  EXPECT_THAT(
      plan(unified(), {.network = oci::NetworkResources{.class_id = 7}}),
      ElementsAre(HasSubstr(
          "linux.resources.network.classID: this host has no cgroup controller for it: net_cls")));
}

TEST(Unified, IsWrittenAsItIsAndLast) {
  EXPECT_THAT(plan(unified(), {.pids_limit = 5,
                               .unified = {{"memory.high", "10"},
                                           {"cgroup.max.depth", "3"},
                                           {"io.max", "8:0 rbps=1\n8:16 rbps=2\n"}}}),
              ElementsAre("/v2/pids.max=5", "/v2/cgroup.max.depth=3", "/v2/io.max=8:0 rbps=1",
                          "/v2/io.max=8:16 rbps=2", "/v2/memory.high=10"));
  for (const char* bad : {"../memory.high", "memory/high", "memory", ".x", "", "a\n.b"}) {
    EXPECT_THAT(plan(unified(), {.unified = {{bad, "1"}}}),
                ElementsAre(HasSubstr("expected a file name of cgroup v2")))
        << bad;
  }
  EXPECT_THAT(plan(legacy(), {.unified = {{"memory.high", "1"}}}),
              ElementsAre(HasSubstr("cgroup v2 is not mounted")));
  EXPECT_THAT(plan(unified(), {.unified = {{"foo.bar", "1"}}}),
              ElementsAre(HasSubstr("linux.resources.unified[\"foo.bar\"]")));
}

TEST(Hybrid, EachControllerWhereItLives) {
  Layout both = legacy();
  std::erase_if(both.legacy, [](const auto& entry) { return entry.first == "hugetlb"; });
  both.unified = "/v2";
  both.unified_controllers = {"hugetlb"};
  EXPECT_THAT(plan(both, {.memory = oci::MemoryResources{.limit = 5},
                          .hugepage_limits = {{.page_size = "2MB", .limit = 1}}}),
              ElementsAre("/memory/memory.limit_in_bytes=5", "/v2/hugetlb.2MB.rsvd.max=1",
                          "/v2/hugetlb.2MB.max=1"));
  EXPECT_THAT(plan(both, {.unified = {{"memory.high", "1"}}}),
              ElementsAre(HasSubstr("cgroup v2 has no controller \"memory\" here")));
}

TEST(Needs, NameTheFieldOfEachController) {
  const auto asked = needs({.memory = oci::MemoryResources{.limit = 1},
                            .pids_limit = 1,
                            .unified = {{"memory.high", "1"}, {"cgroup.freeze", "0"}}});
  ASSERT_EQ(asked.size(), 3U);
  EXPECT_EQ(asked[0].field, "linux.resources.memory");
  EXPECT_EQ(asked[1].field, "linux.resources.pids.limit");
  EXPECT_EQ(asked[2].unified, "memory");
  EXPECT_THAT(needs({}), IsEmpty());
}

}  // namespace
}  // namespace fluyt::runtime::cgroup
