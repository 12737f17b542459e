#include "runtime/cgroup/stats.h"

#include <gtest/gtest.h>

#include "base/strings.h"
#include "sys/file.h"

/// Readers on folders that look like cgroups: what the kernels at hand do not have is tested too.
namespace fluyt::runtime::cgroup {
namespace {

class FakeTree : public testing::Test {
 protected:
  void SetUp() override { folder_.emplace(sys::TempDir::create().value()); }
  std::string dir(const std::string& name) {
    const std::string path = folder_->path() + "/" + name;
    EXPECT_TRUE(sys::make_dirs(path, 0755).ok());
    return path;
  }
  static void put(const std::string& directory, const std::string& file, std::string_view text) {
    EXPECT_TRUE(sys::write_file_atomic(sys::kCwd, directory + "/" + file, text, 0644).ok());
  }
  std::optional<sys::TempDir> folder_;
};

TEST_F(FakeTree, UnifiedFilesAreRead) {
  const std::string v2 = dir("pod");
  put(v2, "cpu.stat",
      "usage_usec 3000000\nuser_usec 2000000\nsystem_usec 1000000\nnr_periods 7\n"
      "nr_throttled 3\nthrottled_usec 500\n");
  put(v2, "cpu.pressure",
      "some avg10=1.50 avg60=2.25 avg300=3.00 total=4000\n"
      "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n");
  put(v2, "memory.current", "1000000\n");
  put(v2, "memory.max", "max\n");
  put(v2, "memory.peak", "2000000\n");
  put(v2, "memory.stat",
      "anon 400000\nfile 300000\nkernel 50000\ninactive_file 100000\nfile_mapped 20000\n"
      "pgfault 11\npgmajfault 2\n");
  put(v2, "memory.swap.current", "4096\n");
  put(v2, "memory.swap.max", "8192\n");
  put(v2, "memory.events", "low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\n");
  put(v2, "memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=77\n");
  put(v2, "pids.current", "5\n");
  put(v2, "pids.max", "max\n");
  put(v2, "io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n259:1 rbytes=9\n");
  const CgroupRecord record{.unified = v2, .legacy = {}, .unit = {}};

  const auto got = stats(record);
  ASSERT_TRUE(got.ok()) << got.error().message();
  ASSERT_TRUE(got->cpu && got->memory && got->pids);
  EXPECT_EQ(got->cpu->usage_ns, 3'000'000'000U);
  EXPECT_EQ(got->cpu->user_ns, 2'000'000'000U);
  EXPECT_EQ(got->cpu->throttled_ns, 500'000U);
  EXPECT_EQ(got->memory->working_set_bytes, 900'000U);
  EXPECT_EQ(got->memory->rss_bytes, 400'000U);
  EXPECT_EQ(got->memory->kernel_bytes, 50'000U);
  EXPECT_EQ(got->memory->max_usage_bytes, 2'000'000U);
  EXPECT_EQ(got->memory->limit_bytes, std::nullopt);
  EXPECT_EQ(got->memory->swap_usage_bytes, 4096U);
  EXPECT_EQ(got->memory->swap_limit_bytes, 8192U);
  EXPECT_EQ(got->memory->limit_hits, 6U);
  EXPECT_EQ(got->memory->oom_kills, 1U);
  EXPECT_EQ(got->pids->current, 5U);
  EXPECT_EQ(got->pids->limit, std::nullopt);
  ASSERT_EQ(got->io.size(), 2U);
  EXPECT_EQ(got->io[0].written_bytes, 2U);
  EXPECT_EQ(got->io[1].major, 259);
  EXPECT_EQ(got->io[1].read_bytes, 9U);
  ASSERT_TRUE(got->cpu_pressure && got->memory_pressure);
  EXPECT_DOUBLE_EQ(got->cpu_pressure->some.avg60, 2.25);
  EXPECT_EQ(got->cpu_pressure->full.total_us, 5U);
  EXPECT_EQ(got->memory_pressure->some.total_us, 77U);
  EXPECT_FALSE(got->io_pressure);

  const auto brief = brief_stats(record);
  ASSERT_TRUE(brief.ok());
  EXPECT_TRUE(brief->memory_pressure);
  EXPECT_TRUE(brief->io.empty());
  EXPECT_EQ(*oom_kills(record), 1U);
}

TEST_F(FakeTree, OlderKernelsAddUpWhatTheKernelUses) {
  const std::string v2 = dir("pod");
  put(v2, "memory.current", "1000\n");
  put(v2, "memory.stat", "kernel_stack 100\npagetables 20\npercpu 3\nsock 4\nslab 500\n");
  const auto got = stats({.unified = v2, .legacy = {}, .unit = {}});
  ASSERT_TRUE(got.ok() && got->memory);
  EXPECT_EQ(got->memory->kernel_bytes, 627U);
  EXPECT_EQ(got->memory->max_usage_bytes, std::nullopt);
  EXPECT_EQ(got->memory->swap_usage_bytes, std::nullopt);
}

TEST_F(FakeTree, LegacyFilesAreRead) {
  const std::string memory = dir("memory");
  const std::string blkio = dir("blkio");
  put(memory, "memory.usage_in_bytes", "1000000\n");
  put(memory, "memory.limit_in_bytes", "9223372036854771712\n");
  put(memory, "memory.max_usage_in_bytes", "1500000\n");
  put(memory, "memory.kmem.usage_in_bytes", "7000\n");
  put(memory, "memory.memsw.usage_in_bytes", "1004096\n");
  put(memory, "memory.stat", "rss 1\ntotal_rss 300000\ntotal_inactive_file 250000\n");
  put(memory, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n");
  // What the disk's scheduler does not count, the throttling layer does.
  put(blkio, "blkio.bfq.io_service_bytes_recursive", "");
  put(blkio, "blkio.throttle.io_service_bytes_recursive",
      "254:0 Read 10\n254:0 Write 20\n254:0 Total 30\nTotal 30\n");
  put(blkio, "blkio.throttle.io_serviced_recursive", "254:0 Read 1\n254:0 Write 2\n");
  const auto got =
      stats({.unified = {}, .legacy = {{"memory", memory}, {"blkio", blkio}}, .unit = {}});
  ASSERT_TRUE(got.ok() && got->memory);
  EXPECT_EQ(got->memory->limit_bytes, std::nullopt);
  EXPECT_EQ(got->memory->rss_bytes, 300'000U);
  EXPECT_EQ(got->memory->working_set_bytes, 750'000U);
  EXPECT_EQ(got->memory->kernel_bytes, 7000U);
  EXPECT_EQ(got->memory->swap_usage_bytes, 4096U);
  EXPECT_EQ(got->memory->oom_kills, 2U);
  EXPECT_FALSE(got->cpu);
  EXPECT_FALSE(got->cpu_pressure);
  ASSERT_EQ(got->io.size(), 1U);
  EXPECT_EQ(got->io[0].written_bytes, 20U);
  EXPECT_EQ(got->io[0].reads, 1U);
}

TEST_F(FakeTree, ACgroupThatIsGoneSaysSo) {
  const auto got = brief_stats({.unified = folder_->path() + "/none", .legacy = {}, .unit = {}});
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace fluyt::runtime::cgroup
