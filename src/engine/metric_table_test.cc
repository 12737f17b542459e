#include "engine/metric_table.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <map>
#include <set>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::engine {
namespace {

namespace cgroup = runtime::cgroup;

struct World {
  Sandbox sandbox;
  Container container;
  DiskUsage layer;

  World() {
    sandbox.id = "s1";
    sandbox.config.name = {"web", "prod", "u1", 0};
    sandbox.config.cgroup_parent = "/kubepods/podu1";
    container.id = "c1";
    container.config.name = {"main", 0};
    container.config.image = "sha256:1";
    container.config.user_specified_image = "busybox:1.36";
    container.started_at = 17'500'000'000;
    container.config.resources.cpu_quota = 20'000;
    layer.used_bytes = 4096;
    layer.file_system =
        FsTotals{.bytes = 1 << 20, .inodes = 100, .free_inodes = 90, .device = "/dev/vda"};
  }
  ContainerSource source() const {
    return {.sandbox = sandbox,
            .container = container,
            .cgroup = "/kubepods/podu1/c1",
            .stats = {},
            .processes = {},
            .layer = &layer,
            .block_devices = {},
            .now_unix_ns = 20'000'000'000};
  }
};

using Found = std::map<std::string, std::vector<Metric>>;
Found by_name(const std::vector<Metric>& metrics) {
  Found out;
  for (const Metric& metric : metrics) out[metric.descriptor->name].push_back(metric);
  return out;
}

std::string label(const Metric& metric, const std::string& key) {
  for (size_t i = 0; i < metric.descriptor->label_keys.size(); ++i) {
    if (metric.descriptor->label_keys[i] == key) return metric.label_values.at(i);
  }
  return "no such label";
}

TEST(Metrics, HaveUniqueNamesHelpAndLabels) {
  std::set<std::string> names;
  for (const MetricDescriptor& one : metric_descriptors()) {
    EXPECT_TRUE(names.insert(one.name).second) << one.name;
    EXPECT_TRUE(one.name.starts_with("container_")) << one.name;
    EXPECT_FALSE(one.help.empty()) << one.name;
    EXPECT_GE(one.label_keys.size(), 6U) << one.name;
    const bool counts = (one.name.ends_with("_total") && one.name != "container_fs_inodes_total") ||
                        one.name.ends_with("_failcnt");
    EXPECT_EQ(one.type == MetricType::kCounter, counts) << one.name;
  }
  EXPECT_EQ(names.size(), 56U);
}

TEST(Metrics, CarryTheLabelsOfTheirContainer) {
  const World world;
  const auto found = by_name(container_metrics(world.source()));
  const Metric& seen = found.at("container_last_seen").at(0);
  EXPECT_EQ(seen.value, 20U);
  EXPECT_EQ(label(seen, "id"), "/kubepods/podu1/c1");
  EXPECT_EQ(label(seen, "name"), "c1");
  EXPECT_EQ(label(seen, "image"), "busybox:1.36");
  EXPECT_EQ(label(seen, "namespace"), "prod");
  EXPECT_EQ(label(seen, "pod"), "web");
  EXPECT_EQ(label(seen, "container"), "main");
  EXPECT_EQ(found.at("container_start_time_seconds").at(0).value, 17U);
}

TEST(Metrics, AlwaysHaveAValueForEachLabel) {
  const World world;
  ContainerSource source = world.source();
  source.stats.cpu = cgroup::CpuStats{};
  source.stats.memory = cgroup::MemoryStats{};
  source.stats.memory->details = {{"pgfault", 1}, {"pgmajfault", 2}};
  source.stats.pids = cgroup::PidsStats{};
  source.stats.io = {{.major = 254, .minor = 0, .read_bytes = 1, .written_bytes = 2}};
  source.stats.hugetlb = {{.page_size = "2MB", .usage_bytes = 5, .max_usage_bytes = 6}};
  source.stats.cpu_pressure = source.stats.memory_pressure = source.stats.io_pressure =
      cgroup::Pressure{};
  source.block_devices = {"/dev/vda"};
  source.processes = {.processes = 1, .file_descriptors = 4, .sockets = 2, .max_open_files = 1024};
  source.stats.memory->max_usage_bytes = source.stats.memory->kernel_bytes = 1;
  source.stats.memory->details.emplace_back("file_mapped", 3);
  std::set<std::string> names;
  for (const Metric& metric : container_metrics(source)) {
    EXPECT_EQ(metric.label_values.size(), metric.descriptor->label_keys.size())
        << metric.descriptor->name;
    names.insert(metric.descriptor->name);
  }
  for (const Metric& metric : sandbox_metrics(world.sandbox, {{.name = "eth0"}})) {
    EXPECT_EQ(metric.label_values.size(), metric.descriptor->label_keys.size());
    names.insert(metric.descriptor->name);
  }
  for (const MetricDescriptor& one : metric_descriptors()) EXPECT_TRUE(names.contains(one.name));
}

TEST(Metrics, AreInWholeSeconds) {
  const World world;
  ContainerSource source = world.source();
  source.stats.cpu = cgroup::CpuStats{};
  source.stats.cpu->usage_ns = 3'999'999'999;
  source.stats.cpu->throttled_ns = 2'000'000'000;
  source.stats.io_pressure = cgroup::Pressure{};
  source.stats.io_pressure->full.total_us = 5'100'000;
  const auto found = by_name(container_metrics(source));
  EXPECT_EQ(found.at("container_cpu_usage_seconds_total").at(0).value, 3U);
  EXPECT_EQ(label(found.at("container_cpu_usage_seconds_total").at(0), "cpu"), "total");
  EXPECT_EQ(found.at("container_cpu_cfs_throttled_seconds_total").at(0).value, 2U);
  EXPECT_EQ(found.at("container_pressure_io_stalled_seconds_total").at(0).value, 5U);
  EXPECT_FALSE(found.contains("container_pressure_cpu_stalled_seconds_total"));
}

TEST(Metrics, OfDisksAreOneADevice) {
  const World world;
  ContainerSource source = world.source();
  source.stats.io = {
      {.major = 254, .minor = 0, .read_bytes = 1, .written_bytes = 2, .reads = 3, .writes = 4},
      {.major = 8, .minor = 1, .read_bytes = 5}};
  source.block_devices = {"/dev/vda", "8:1"};
  const auto found = by_name(container_metrics(source));
  ASSERT_EQ(found.at("container_fs_reads_bytes_total").size(), 2U);
  EXPECT_EQ(label(found.at("container_fs_reads_bytes_total")[1], "device"), "8:1");
  EXPECT_EQ(found.at("container_fs_writes_total")[0].value, 4U);
  const auto& moved = found.at("container_blkio_device_usage_total");
  ASSERT_EQ(moved.size(), 4U);
  EXPECT_EQ(label(moved[1], "operation"), "Write");
  EXPECT_EQ(label(moved[1], "major"), "254");
  EXPECT_EQ(moved[1].value, 2U);
  EXPECT_EQ(label(found.at("container_fs_usage_bytes").at(0), "device"), "/dev/vda");
  EXPECT_EQ(found.at("container_fs_usage_bytes").at(0).value, 4096U);
}

TEST(Metrics, OfWhatWasNotAskedForAreTheKernelsOwn) {
  World world;
  auto found = by_name(container_metrics(world.source()));
  EXPECT_EQ(found.at("container_spec_cpu_quota").at(0).value, 20'000U);
  EXPECT_EQ(found.at("container_spec_cpu_shares").at(0).value, 1024U);
  EXPECT_EQ(found.at("container_spec_cpu_period").at(0).value, 100'000U);
  EXPECT_EQ(found.at("container_spec_memory_limit_bytes").at(0).value, 0U);
  world.container.config.resources.cpu_quota = -1;
  world.container.config.resources.memory_limit_bytes = -1;
  found = by_name(container_metrics(world.source()));
  EXPECT_FALSE(found.contains("container_spec_cpu_quota"));
  EXPECT_EQ(found.at("container_spec_memory_limit_bytes").at(0).value, 0U);
}

TEST(Metrics, OfAPodAreOneADevice) {
  const World world;
  const auto found = by_name(sandbox_metrics(
      world.sandbox, {{.name = "eth0", .rx_bytes = 7, .tx_dropped = 3}, {.name = "net1"}}));
  ASSERT_EQ(found.at("container_network_receive_bytes_total").size(), 2U);
  const Metric& one = found.at("container_network_receive_bytes_total")[0];
  EXPECT_EQ(one.value, 7U);
  EXPECT_EQ(label(one, "interface"), "eth0");
  EXPECT_EQ(label(one, "pod"), "web");
  EXPECT_EQ(label(one, "container"), "POD");
  EXPECT_EQ(found.at("container_network_transmit_packets_dropped_total")[0].value, 3U);
}

TEST(BlockDevices, AreNamedAsSysfsDoes) {
  const sys::TempDir folder = sys::TempDir::create().value();
  ASSERT_TRUE(sys::make_dirs(folder.path() + "/254:0", 0755).ok());
  ASSERT_TRUE(sys::write_file_atomic(sys::kCwd, folder.path() + "/254:0/uevent",
                                     "MAJOR=254\nMINOR=0\nDEVNAME=vda\nDEVTYPE=disk\n", 0644)
                  .ok());
  EXPECT_EQ(block_device_name(folder.path(), 254, 0), "/dev/vda");
  EXPECT_EQ(block_device_name(folder.path(), 0, 33), "0:33");
}

TEST(Processes, AreCountedWithWhatTheyHold) {
  const sys::TempDir folder = sys::TempDir::create().value();
  const auto process = [&](int pid, const std::vector<std::string>& links) {
    const std::string dir = cat(folder.path(), "/", pid, "/fd");
    ASSERT_TRUE(sys::make_dirs(dir, 0755).ok());
    for (size_t i = 0; i < links.size(); ++i) {
      ASSERT_EQ(::symlink(links[i].c_str(), cat(dir, "/", i).c_str()), 0);
    }
  };
  process(10, {"/dev/null", "socket:[1]", "pipe:[2]"});
  process(11, {"socket:[3]", "anon_inode:[eventfd]"});
  ASSERT_TRUE(sys::write_file_atomic(
                  sys::kCwd, folder.path() + "/10/limits",
                  "Limit                     Soft Limit           Hard Limit           Units\n"
                  "Max open files            1024                 524288               files\n",
                  0644)
                  .ok());
  const ProcessTotals totals = read_processes(folder.path(), {10, 11, 12}, 10);
  EXPECT_EQ(totals.processes, 3U);  // the third has ended meanwhile
  EXPECT_EQ(totals.file_descriptors, 5U);
  EXPECT_EQ(totals.sockets, 2U);
  EXPECT_EQ(totals.max_open_files, 1024U);
}

TEST(Processes, OursAreCountedByTheKernel) {
  const int before = static_cast<int>(*read_processes("/proc", {getpid()}, 0).sockets);
  std::array<int, 2> pair{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  const ProcessTotals totals = read_processes("/proc", {getpid()}, getpid());
  EXPECT_EQ(*totals.sockets, static_cast<uint64_t>(before) + 2);
  EXPECT_GT(*totals.file_descriptors, 3U);
  EXPECT_GT(*totals.max_open_files, 0U);
  ::close(pair[0]);
  ::close(pair[1]);
}

}  // namespace
}  // namespace fluyt::engine
