#include "guest/platform/host/memory.h"

#include <gtest/gtest.h>

#include "guest/platform/host/io.h"

namespace fluyt::guest::host {
namespace {

constexpr const char* kMeminfo =
    "MemTotal:       24684084 kB\nMemFree:        22576420 kB\nMemAvailable:   23896564 kB\n"
    "Buffers:          147144 kB\nCached:          1552284 kB\nSwapCached:            7 kB\n"
    "Active:          1162460 kB\nInactive:         534936 kB\nActive(anon):       2452 kB\n"
    "SwapTotal:          1000 kB\nSwapFree:            900 kB\nShmem:             10064 kB\n"
    "SReclaimable:     169608 kB\nHugePages_Total:       3\nnonsense\nMemFree\n";

TEST(Memory, FiguresAreReadByTheirNames) {
  const MemoryFigures got = parse_meminfo(kMeminfo);
  EXPECT_EQ(got, (MemoryFigures{.total = uint64_t{24684084} << 10,
                                .free = uint64_t{22576420} << 10,
                                .available = uint64_t{23896564} << 10,
                                .buffers = uint64_t{147144} << 10,
                                .cached = uint64_t{1552284} << 10,
                                .active = uint64_t{1162460} << 10,
                                .inactive = uint64_t{534936} << 10,
                                .shared = uint64_t{10064} << 10,
                                .reclaimable = uint64_t{169608} << 10,
                                .swap_total = 1000 << 10,
                                .swap_free = 900 << 10}));
  EXPECT_EQ(parse_meminfo(""), MemoryFigures());
}

TEST(Memory, ALimitIsTheTotal) {
  const MemoryFigures host = parse_meminfo(kMeminfo);
  const MemoryFigures limited = within(host, 1 << 30, 100 << 20);
  EXPECT_EQ(limited.total, uint64_t{1} << 30);
  EXPECT_EQ(limited.free, uint64_t{924} << 20);
  EXPECT_EQ(limited.available, limited.free);
  EXPECT_EQ(limited.cached, 0U);
  EXPECT_EQ(within(host, 1 << 20, 2 << 20).free, 0U) << "a limit may have been lowered";
}

TEST(Memory, WhatTheHostHasNotGotNoLimitGives) {
  const MemoryFigures host{.total = 1000, .free = 10, .available = 20};
  EXPECT_EQ(within(host, 1000, 0), host);
  EXPECT_EQ(within(host, UINT64_MAX, 0), host);
  EXPECT_EQ(within(host, 900, 100), (MemoryFigures{.total = 900, .free = 10, .available = 20}));
}

TEST(Memory, AGaugeReadsAgain) {
  auto procfs = open_procfs();
  ASSERT_TRUE(procfs.ok());
  const MemoryGauge gauge = MemoryGauge::open(*procfs, 0);
  procfs->reset();
  for (int i = 0; i < 2; ++i) {
    const MemoryFigures figures = gauge.read();
    EXPECT_GT(figures.total, 0U);
    EXPECT_GT(figures.total, figures.free);
    EXPECT_GE(figures.total, figures.available);
  }
  EXPECT_EQ(MemoryGauge().read(), MemoryFigures());
}

}  // namespace
}  // namespace fluyt::guest::host
