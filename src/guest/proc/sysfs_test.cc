#include "guest/proc/sysfs.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/stat.h>

#include "guest/base/wait.h"
#include "guest/vfs/tree.h"

namespace fluyt::guest {
namespace {

Interface ethernet(uint32_t flags) {
  Interface out;
  out.index = 7;
  out.name = "eth0";
  out.flags = flags;
  out.mtu = 1450;
  out.kind = ARPHRD_ETHER;
  out.hardware = {0x02, 0, 0xab, 0xcd, 0xef, 0x10};
  return out;
}
constexpr uint32_t kUp = IFF_UP | IFF_BROADCAST | IFF_MULTICAST | IFF_RUNNING | 0x10000;

class SysfsTest : public testing::Test {
 protected:
  explicit SysfsTest(unsigned processors = 4)
      : tree_(make_sysfs({.interfaces = {loopback(), ethernet(kUp)},
                          .processors = processors,
                          .huge_pages = {{"enabled", "always [madvise] never\n"}},
                          .memory = [this] { return figures_; }}),
              "sysfs") {}
  WalkFrom from() { return {tree_.root(), tree_.root(), {}}; }
  /// The text, or the errno of opening or reading.
  std::string read(const std::string& path) {
    ErrnoOr<Tree::Opened> opened = tree_.open(from(), path, O_RDONLY, 0);
    if (!opened.ok()) return "open: " + std::to_string(opened.error().value());
    std::string out(4096, 0);
    int64_t offset = 0;
    const ErrnoOr<size_t> got =
        opened->file->read(caller_, std::as_writable_bytes(std::span(out)), &offset);
    if (!got.ok()) return "read: " + std::to_string(got.error().value());
    out.resize(got.value());
    return out;
  }
  std::vector<std::string> names(const std::string& path) {
    std::vector<std::string> out;
    const ErrnoOr<DentryPtr> at = tree_.find(from(), path, LastLink::kFollow);
    if (!at.ok()) return {"no " + path};
    const ErrnoOr<std::vector<DirEntry>> entries = at.value()->inode->list();
    for (const DirEntry& entry : entries.value()) out.push_back(entry.name);
    return out;
  }
  host::MemoryFigures figures_{.total = 1 << 20, .free = 1 << 19};
  Tree tree_;
  Sleeper sleeper_;
  Credentials who_;
  Caller caller_{sleeper_, who_};
};

TEST_F(SysfsTest, DevicesAreThoseOfTheNetwork) {
  EXPECT_EQ(names("/class/net"), (std::vector<std::string>{"lo", "eth0"}));
  const std::string eth = "/class/net/eth0/";
  EXPECT_EQ(read(eth + "address"), "02:00:ab:cd:ef:10\n");
  EXPECT_EQ(read(eth + "broadcast"), "ff:ff:ff:ff:ff:ff\n");
  EXPECT_EQ(read(eth + "addr_len"), "6\n");
  EXPECT_EQ(read(eth + "mtu"), "1450\n");
  EXPECT_EQ(read(eth + "ifindex"), "7\n");
  EXPECT_EQ(read(eth + "type"), "1\n");
  EXPECT_EQ(read(eth + "flags"), "0x1003\n");
  EXPECT_EQ(read(eth + "operstate"), "up\n");
  EXPECT_EQ(read(eth + "carrier"), "1\n");
  EXPECT_EQ(read(eth + "uevent"), "INTERFACE=eth0\nIFINDEX=7\n");
  EXPECT_EQ(read("/devices/virtual/net/eth0/subsystem/lo/type"), "772\n");
  EXPECT_EQ(read("/class/net/lo/operstate"), "unknown\n");
  EXPECT_EQ(read("/class/net/lo/flags"), "0x9\n");
  EXPECT_EQ(read("/class/net/lo/broadcast"), "00:00:00:00:00:00\n");
  EXPECT_EQ(read("/class/net/eth1/mtu"), "open: 2");
}

TEST_F(SysfsTest, WhatADeviceCannotSayFailsWhenItIsRead) {
  EXPECT_EQ(read("/class/net/eth0/speed"), "read: 22");
  EXPECT_EQ(read("/class/net/lo/duplex"), "read: 22");
  Tree down(make_sysfs({.interfaces = {ethernet(IFF_BROADCAST)}, .huge_pages = {}, .memory = {}}),
            "sysfs");
  const WalkFrom at{down.root(), down.root(), {}};
  const auto text = [&](const char* name) -> std::string {
    const FilePtr file =
        down.open(at, std::string("/class/net/eth0/") + name, O_RDONLY, 0).value().file;
    std::string out(64, 0);
    int64_t offset = 0;
    const auto got = file->read(caller_, std::as_writable_bytes(std::span(out)), &offset);
    return got.ok() ? out.substr(0, got.value()) : "error";
  };
  EXPECT_EQ(text("carrier"), "error");
  EXPECT_EQ(text("operstate"), "down\n");
}

TEST_F(SysfsTest, ProcessorsAreCounted) {
  const std::string cpu = "/devices/system/cpu/";
  for (const char* name : {"online", "possible", "present"}) EXPECT_EQ(read(cpu + name), "0-3\n");
  EXPECT_EQ(read(cpu + "offline"), "\n");
  EXPECT_EQ(read(cpu + "cpu3/topology/core_id"), "3\n");
  EXPECT_EQ(read(cpu + "cpu3/topology/thread_siblings"), "8\n");
  EXPECT_EQ(read(cpu + "cpu3/topology/thread_siblings_list"), "3\n");
  EXPECT_EQ(read(cpu + "cpu0/topology/core_siblings"), "f\n");
  EXPECT_EQ(read(cpu + "cpu0/topology/core_siblings_list"), "0-3\n");
  EXPECT_EQ(read(cpu + "cpu4/topology/core_id"), "open: 2");
}

class ManyProcessors : public SysfsTest {
 protected:
  ManyProcessors() : SysfsTest(70) {}
};
TEST_F(ManyProcessors, MasksHaveWords) {
  const std::string cpu = "/devices/system/cpu/";
  EXPECT_EQ(read(cpu + "online"), "0-69\n");
  EXPECT_EQ(read(cpu + "cpu0/topology/core_siblings"), "3f,ffffffff,ffffffff\n");
  EXPECT_EQ(read(cpu + "cpu33/topology/thread_siblings"), "00,00000002,00000000\n");
  EXPECT_EQ(read("/devices/system/node/node0/cpumap"), "3f,ffffffff,ffffffff\n");
}

class OneProcessor : public SysfsTest {
 protected:
  OneProcessor() : SysfsTest(1) {}
};
TEST_F(OneProcessor, AListOfOneHasNoDash) {
  EXPECT_EQ(read("/devices/system/cpu/possible"), "0\n");
  EXPECT_EQ(read("/devices/system/node/node0/cpumap"), "1\n");
}

TEST_F(SysfsTest, MemoryIsOneNode) {
  EXPECT_EQ(read("/devices/system/node/online"), "0\n");
  EXPECT_EQ(read("/devices/system/node/node0/cpulist"), "0-3\n");
  EXPECT_EQ(read("/devices/system/node/node0/cpu2/topology/core_id"), "2\n");
  const std::string before = read("/devices/system/node/node0/meminfo");
  EXPECT_TRUE(before.starts_with("Node 0 MemTotal:           1024 kB\n")) << before;
  EXPECT_NE(before.find("Node 0 MemUsed:             512 kB\n"), std::string::npos) << before;
  figures_.free = 0;
  const std::string after = read("/devices/system/node/node0/meminfo");
  EXPECT_NE(after.find("Node 0 MemUsed:            1024 kB\n"), std::string::npos) << after;
}

TEST_F(SysfsTest, HugePagesAreTheHosts) {
  EXPECT_EQ(names("/kernel/mm/transparent_hugepage"), (std::vector<std::string>{"enabled"}));
  EXPECT_EQ(read("/kernel/mm/transparent_hugepage/enabled"), "always [madvise] never\n");
  EXPECT_EQ(names("/kernel/mm/hugepages"), std::vector<std::string>());
}

TEST_F(SysfsTest, FoldersThatAreLookedForAreEmpty) {
  for (const char* path : {"/block", "/bus", "/dev/block", "/dev/char", "/firmware", "/fs/cgroup",
                           "/module", "/power"})
    EXPECT_EQ(names(path), std::vector<std::string>()) << path;
}

TEST_F(SysfsTest, NothingIsWrittenOrMade) {
  const auto opened = tree_.open(from(), "/class/net/lo/mtu", O_WRONLY, 0);
  ASSERT_TRUE(opened.ok());  // as root
  int64_t offset = 0;
  const char text[] = "9000";
  EXPECT_EQ(
      opened.value().file->write(caller_, std::as_bytes(std::span(text)), &offset).error().value(),
      EIO);
  EXPECT_EQ(read("/class/net/lo/mtu"), "65536\n");
  EXPECT_FALSE(tree_.make(from(), "/fs/new", S_IFDIR | 0755, 0).ok());
  EXPECT_FALSE(tree_.remove(from(), "/class/net/lo", false).ok());
}

TEST_F(SysfsTest, ItIsASysfs) {
  EXPECT_EQ(tree_.root()->inode->statfs().value().type, 0x62656572);
  const DentryPtr mtu = tree_.find(from(), "/class/net/lo/mtu", LastLink::kFollow).value();
  EXPECT_EQ(mtu->inode->stat().value().size, 4096);
  EXPECT_EQ(tree_.path_of(mtu, tree_.root()), "/devices/virtual/net/lo/mtu");
}

}  // namespace
}  // namespace fluyt::guest
