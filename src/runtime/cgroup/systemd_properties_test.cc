#include "runtime/cgroup/systemd_properties.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/strings.h"

namespace fluyt::runtime::cgroup::systemd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string text_of(const dbus::Value& value) {
  struct Visitor {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(double v) const { return std::to_string(v); }
    std::string operator()(uint64_t v) const {
      return v == UINT64_MAX ? "infinity" : std::to_string(v);
    }
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(uint32_t v) const { return std::to_string(v); }
    std::string operator()(int32_t v) const { return std::to_string(v); }
    std::string operator()(const std::string& v) const { return v; }
    std::string operator()(const std::vector<uint8_t>& v) const {
      return to_hex(std::string_view(reinterpret_cast<const char*>(v.data()), v.size()));
    }
    std::string operator()(const std::vector<uint32_t>& v) const {
      return cat(v.size(), " numbers");
    }
    std::string operator()(const std::vector<std::string>& v) const { return fluyt::join(v, ","); }
    std::string operator()(const dbus::Pairs& v) const {
      std::string out;
      for (const auto& [path, access] : v) out += cat(out.empty() ? "" : ",", path, " ", access);
      return cat("[", out, "]");
    }
  };
  return cat(dbus::signature_of(value), " ", std::visit(Visitor{}, value));
}

std::vector<std::string> shown(const std::vector<Property>& properties) {
  std::vector<std::string> out;
  for (const Property& one : properties) out.push_back(cat(one.name, "=", text_of(one.value)));
  return out;
}

std::vector<Write> writes(const std::vector<std::pair<std::string, std::string>>& files) {
  std::vector<Write> out;
  for (const auto& [file, value] : files)
    out.push_back({.directory = "/cg", .file = file, .value = value, .field = {}});
  return out;
}

std::vector<std::string> limits(const std::vector<std::pair<std::string, std::string>>& files,
                                const Present& present = {}, int version = 252) {
  return shown(limit_properties(writes(files), present, version));
}

std::string fitted(const std::string& file, const std::string& value) {
  auto plan = writes({{file, value}});
  fit_to_systemd(plan, {});
  return plan[0].value;
}

TEST(Limits, OfVersionTwoHaveTheirProperties) {
  EXPECT_THAT(limits({{"memory.max", "1048576"},
                      {"memory.high", "max"},
                      {"memory.low", "5"},
                      {"memory.min", "2k"},
                      {"memory.swap.max", "0"},
                      {"pids.max", "17"}}),
              ElementsAre("MemoryMax=t 1048576", "MemoryHigh=t infinity", "MemoryLow=t 5",
                          "MemoryMin=t 2048", "MemorySwapMax=t 0", "TasksMax=t 17"));
}

TEST(Limits, CpuIsQuotaASecondAndPeriod) {
  EXPECT_THAT(limits({{"cpu.max", "50000 100000"}}),
              ElementsAre("CPUQuotaPeriodUSec=t 100000", "CPUQuotaPerSecUSec=t 500000"));
  EXPECT_THAT(limits({{"cpu.max", "max 50000"}}),
              ElementsAre("CPUQuotaPeriodUSec=t 50000", "CPUQuotaPerSecUSec=t infinity"));
  EXPECT_THAT(limits({{"cpu.max", "50000"}}, {}, 241), ElementsAre("CPUQuotaPerSecUSec=t 500000"));
  // systemd keeps whole per cent: 1.234 % is 2 %.
  EXPECT_THAT(limits({{"cpu.max", "1234 100000"}}),
              ElementsAre("CPUQuotaPeriodUSec=t 100000", "CPUQuotaPerSecUSec=t 20000"));
}

TEST(Limits, LegacyCpuNeedsBothFiles) {
  EXPECT_THAT(limits({{"cpu.cfs_quota_us", "5000"}}, {.quota = -1, .period = 10'000}),
              ElementsAre("CPUQuotaPeriodUSec=t 10000", "CPUQuotaPerSecUSec=t 500000"));
  EXPECT_THAT(limits({{"cpu.cfs_period_us", "20000"}}, {.quota = 5000, .period = 10'000}),
              ElementsAre("CPUQuotaPeriodUSec=t 20000", "CPUQuotaPerSecUSec=t 250000"));
  EXPECT_THAT(
      limits({{"cpu.shares", "512"}, {"memory.limit_in_bytes", "-1"}, {"blkio.weight", "20"}}),
      ElementsAre("CPUShares=t 512", "MemoryLimit=t infinity", "BlockIOWeight=t 20"));
}

TEST(Limits, IdleIsAWeightToSystemd) {
  EXPECT_THAT(limits({{"cpu.weight", "79"}, {"cpu.idle", "1"}}), ElementsAre("CPUWeight=t 0"));
  EXPECT_THAT(limits({{"cpu.idle", "0"}}), ElementsAre("CPUWeight=t infinity"));
  EXPECT_THAT(limits({{"cpu.idle", "0"}, {"cpu.weight", "79"}}), ElementsAre("CPUWeight=t 79"));
  EXPECT_THAT(limits({{"cpu.idle", "1"}, {"cpu.weight", "79"}}, {}, 251),
              ElementsAre("CPUWeight=t 79"));
}

TEST(Limits, CpusetsAreBits) {
  EXPECT_THAT(limits({{"cpuset.cpus", "0-2,9"}, {"cpuset.mems", "0"}}),
              ElementsAre("AllowedCPUs=ay 0702", "AllowedMemoryNodes=ay 01"));
  EXPECT_THAT(limits({{"cpuset.cpus", ""}}), ElementsAre("AllowedCPUs=ay "));
  EXPECT_THAT(limits({{"cpuset.cpus", "0"}}, {}, 243), IsEmpty());
  for (const char* bad : {"x", "2-1", "1-", "-", "99999999"})
    EXPECT_FALSE(cpu_bits(bad).ok()) << bad;
}

TEST(Limits, WeightOfBlockDevices) {
  EXPECT_THAT(limits({{"io.weight", "default 50"}}), ElementsAre("IOWeight=t 50"));
  EXPECT_THAT(limits({{"io.bfq.weight", "default 190"}}), ElementsAre("IOWeight=t 1090"));
  EXPECT_THAT(limits({{"io.weight", "8:0 50"}}), IsEmpty());
}

TEST(Limits, WhatSystemdNeverWritesHasNone) {
  EXPECT_THAT(limits({{"hugetlb.2MB.max", "0"},
                      {"io.max", "8:0 rbps=1"},
                      {"rdma.max", "x hca_handle=1"},
                      {"cpu.max.burst", "5"},
                      {"memory.oom.group", "1"},
                      {"memory.max", "lots"}}),
              IsEmpty());
}

TEST(Fit, FileAndPropertyAgree) {
  EXPECT_EQ(fitted("cpu.max", "1234 100000"), "2000 100000");
  EXPECT_EQ(fitted("cpu.max", "50000 100000"), "50000 100000");
  EXPECT_EQ(fitted("cpu.max", "max 100000"), "max 100000");
  EXPECT_EQ(fitted("cpu.cfs_quota_us", "1234"), "2000");
  EXPECT_EQ(fitted("cpu.cfs_quota_us", "-1"), "-1");
  EXPECT_EQ(fitted("pids.max", "0"), "1");
  EXPECT_EQ(fitted("memory.max", "0"), "0");
}

TEST(Fit, WhatIsIdleHasNoWeight) {
  auto plan = writes({{"cpu.weight", "79"}, {"cpu.idle", "1"}});
  fit_to_systemd(plan, {});
  EXPECT_EQ(plan, writes({{"cpu.idle", "1"}}));
  plan = writes({{"cpu.idle", "0"}, {"cpu.weight", "79"}});
  fit_to_systemd(plan, {});
  EXPECT_EQ(plan.size(), 2U);
}

Rule rule(bool allow, char type, std::optional<uint32_t> major, std::optional<uint32_t> minor,
          uint32_t access = kAllAccess) {
  return {.allow = allow, .type = type, .major = major, .minor = minor, .access = access};
}

TEST(Devices, AreAListBehindStrict) {
  EXPECT_THAT(shown(device_properties({Rule{}, rule(true, 'c', 1, 3),
                                       rule(true, 'c', 136, {}, kRead | kWrite),
                                       rule(true, 'b', {}, {}, kMknod)})),
              ElementsAre("DeviceAllow=a(ss) []",
                          "DeviceAllow=a(ss) [/dev/char/1:3 rwm,char-136 rw,block-* m]",
                          "DevicePolicy=s strict"));
}

TEST(Devices, WhatSystemdCannotSayIsEverything) {
  const auto everything = ElementsAre("DeviceAllow=a(ss) []", "DevicePolicy=s auto");
  EXPECT_THAT(shown(device_properties({rule(true, 'a', {}, {})})), everything);
  EXPECT_THAT(shown(device_properties({Rule{}, rule(true, 'c', {}, 3)})), everything);
  // A hole in a wildcard.
  EXPECT_THAT(shown(device_properties({Rule{}, rule(true, 'c', {}, {}), rule(false, 'c', 1, 11)})),
              everything);
}

TEST(Sort, GoesByTheFilesThatSystemdKeeps) {
  std::vector<Property> all{{.name = "TasksMax", .value = uint64_t{1}},
                            {.name = "CPUQuotaPerSecUSec", .value = uint64_t{2}},
                            {.name = "DevicePolicy", .value = std::string("strict")},
                            {.name = "DeviceAllow", .value = dbus::Pairs{}},
                            {.name = "CPUQuotaPeriodUSec", .value = uint64_t{3}},
                            {.name = "DeviceAllow", .value = dbus::Pairs{{"char-1", "r"}}}};
  sort_properties(all);
  EXPECT_THAT(shown(all), ElementsAre("CPUQuotaPerSecUSec=t 2", "CPUQuotaPeriodUSec=t 3",
                                      "DeviceAllow=a(ss) []", "DeviceAllow=a(ss) [char-1 r]",
                                      "DevicePolicy=s strict", "TasksMax=t 1"));
}

TEST(Annotations, BecomeProperties) {
  const auto got =
      annotation_properties({{"org.systemd.property.CollectMode", "'inactive-or-failed'"},
                             {"org.systemd.property.RuntimeMaxSec", "2"},
                             {"org.systemd.property.TimeoutStopUSec", "uint64 123456789"},
                             {"org.systemd.property.SendSIGHUP", "true"},
                             {"org.systemd.property.After", "['a.service', \"b.service\"]"},
                             {"org.other", "x"}});
  ASSERT_TRUE(got.ok()) << got.error().message();
  EXPECT_THAT(
      shown(*got),
      ElementsAre("After=as a.service,b.service", "CollectMode=s inactive-or-failed",
                  "RuntimeMaxUSec=t 2000000", "SendSIGHUP=b true", "TimeoutStopUSec=t 123456789"));
}

TEST(Annotations, AreRefusedByName) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"", "1"},
                                                        {"ab", "1"},
                                                        {"A.B.C", "1"},
                                                        {"Abc", ""},
                                                        {"Abc", "word"},
                                                        {"Abc", "'open"},
                                                        {"Abc", "uint64 -1"},
                                                        {"Abc", "1 2 3"},
                                                        {"Abc", "['a' 'b']"},
                                                        {"TimeoutStopSec", "'x'"},
                                                        {"TimeoutStopSec", "-1"}}) {
    const auto got = annotation_properties({{"org.systemd.property." + name, value}});
    ASSERT_FALSE(got.ok()) << name << "=" << value;
    EXPECT_THAT(got.error().message(), HasSubstr("org.systemd.property." + name));
  }
}

}  // namespace
}  // namespace fluyt::runtime::cgroup::systemd
