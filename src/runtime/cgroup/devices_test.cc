#include "runtime/cgroup/devices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <random>

namespace fluyt::runtime::cgroup {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Access {
  char type;
  uint32_t major;
  uint32_t minor;
  uint32_t access;
};

/// What the rules mean: for each bit the last rule that matches.
bool allowed(const std::vector<Rule>& rules, const Access& asked) {
  for (const uint32_t bit : {kMknod, kRead, kWrite}) {
    if ((asked.access & bit) == 0) continue;
    bool allow = false;
    for (const Rule& rule : rules) {
      if ((rule.type == 'a' || rule.type == asked.type) &&
          (!rule.major || *rule.major == asked.major) &&
          (!rule.minor || *rule.minor == asked.minor) && (rule.access & bit) != 0) {
        allow = rule.allow;
      }
    }
    if (!allow) return false;
  }
  return true;
}

/// Runs a device program; -1 when it does something that the kernel's verifier refuses.
int run(const std::vector<BpfInstruction>& code, const Access& asked) {
  const uint32_t context[3] = {asked.access << 16U | (asked.type == 'c' ? 2U : 1U), asked.major,
                               asked.minor};
  uint64_t r[11] = {};
  for (size_t at = 0; at < code.size(); ++at) {
    const BpfInstruction& i = code[at];
    uint64_t& to = r[i.registers & 15U];
    const uint64_t from = r[i.registers >> 4U];
    const auto value = static_cast<uint32_t>(i.immediate);
    switch (i.code) {
      case BPF_LDX | BPF_MEM | BPF_W:
        to = context[i.offset / 4];
        break;
      case BPF_ALU | BPF_K | BPF_AND:
        to = static_cast<uint32_t>(to) & value;
        break;
      case BPF_ALU | BPF_K | BPF_RSH:
        to = static_cast<uint32_t>(to) >> value;
        break;
      case BPF_ALU | BPF_X | BPF_MOV:
        to = static_cast<uint32_t>(from);
        break;
      case BPF_ALU64 | BPF_K | BPF_MOV:
        to = value;
        break;
      case BPF_JMP32 | BPF_K | BPF_JEQ:
        at += static_cast<uint32_t>(to) == value ? static_cast<size_t>(i.offset) : 0;
        break;
      case BPF_JMP32 | BPF_K | BPF_JNE:
        at += static_cast<uint32_t>(to) != value ? static_cast<size_t>(i.offset) : 0;
        break;
      case BPF_JMP | BPF_EXIT:
        return static_cast<int>(r[0]);
      default:
        return -1;
    }
  }
  return -1;
}

std::vector<std::string> legacy_text(const std::vector<oci::DeviceRule>& asked,
                                     const char* present = "a *:* rwm\n") {
  const auto wanted = legacy_devices(device_rules(asked).value());
  if (!wanted.ok()) return {wanted.error().message()};
  std::vector<std::string> out;
  for (const DeviceWrite& write :
       legacy_device_writes(parse_devices_list(present).value(), *wanted)) {
    out.push_back(write.file.substr(8) + " " + write.value);
  }
  return out;
}

constexpr const char* kDefaults =
    "c *:* m\nb *:* m\nc 1:3 rwm\nc 1:5 rwm\nc 1:7 rwm\nc 1:8 rwm\nc 1:9 rwm\nc 5:0 rwm\nc 5:2 "
    "rwm\nc 136:* rwm\n";

TEST(Rules, DenyComesFirstWhateverIsAsked) {
  // GHSA-g54h-m393-cpwq: a list of "allow" alone must not leave the rest open.
  const auto rules =
      device_rules({{.allow = true, .type = 'c', .major = 10, .minor = 229, .access = "rw"}})
          .value();
  EXPECT_TRUE(rules.front().everything());
  EXPECT_FALSE(rules.front().allow);
  EXPECT_FALSE(allowed(rules, {'b', 8, 0, kRead}));
  EXPECT_TRUE(allowed(rules, {'c', 10, 229, kRead | kWrite}));
  EXPECT_TRUE(allowed(rules, {'c', 1, 3, kRead | kWrite}));
  EXPECT_TRUE(allowed(rules, {'b', 8, 0, kMknod})) << "a node may be made, but not opened";
}

TEST(Rules, BadOnesNameTheField) {
  const auto error = [](const oci::DeviceRule& rule) {
    const auto rules = device_rules({oci::DeviceRule{}, rule});
    return rules.ok() ? "no error" : rules.error().message();
  };
  EXPECT_THAT(error({.type = 'x'}),
              HasSubstr("linux.resources.devices[1].type: \"x\": expected a, b or c"));
  EXPECT_THAT(error({.access = "rx"}), HasSubstr("devices[1].access: \"rx\""));
  EXPECT_THAT(error({.major = -2}), HasSubstr("devices[1].major: -2"));
  EXPECT_THAT(error({.minor = 1LL << 40}), HasSubstr("devices[1].minor"));
  EXPECT_FALSE(device_rules(std::vector<oci::DeviceRule>(kMaxRules + 1)).ok());
}

TEST(Legacy, FreshGroupIsClosedThenOpened) {
  const auto writes = legacy_text(
      {{.allow = false}, {.allow = true, .type = 'c', .major = 10, .minor = 229, .access = "rw"}});
  ASSERT_GT(writes.size(), 3U);
  EXPECT_EQ(writes[0], "deny a");
  EXPECT_EQ(writes[1], "allow c 10:229 rw");
  EXPECT_EQ(writes[2], "allow c *:* m");
  EXPECT_EQ(writes.back(), "allow c 136:* rwm");
}

TEST(Legacy, UpdateWritesOnlyTheDifference) {
  EXPECT_THAT(legacy_text({}, kDefaults), IsEmpty());
  EXPECT_THAT(legacy_text({{.allow = true, .type = 'c', .major = 10, .minor = 1, .access = "r"}},
                          kDefaults),
              ElementsAre("allow c 10:1 r"));
  EXPECT_THAT(legacy_text({}, (std::string(kDefaults) + "c 10:1 rw\n").c_str()),
              ElementsAre("deny c 10:1 rw"));
}

TEST(Legacy, PrivilegedAllowsAll) {
  EXPECT_THAT(legacy_text({{.allow = true}}), ElementsAre("allow a"));
  EXPECT_THAT(legacy_text({{.allow = true},
                           {.allow = false, .type = 'b', .major = 8, .minor = 0, .access = "w"}}),
              ElementsAre("allow a", "deny b 8:0 w"));
}

TEST(Legacy, HolesInWildcardsAreRefused) {
  EXPECT_THAT(
      legacy_text({{.allow = true, .type = 'c', .major = 10},
                   {.allow = false, .type = 'c', .major = 10, .minor = 229}}),
      ElementsAre(HasSubstr("cgroup v1 cannot make an exception from the earlier \"c 10:* rwm\"")));
}

TEST(Program, MeansWhatTheRulesMean) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<oci::DeviceRule> asked;
    for (auto k = random() % 12; k > 0; --k) {
      oci::DeviceRule rule{.allow = random() % 2 == 0, .type = "acb"[random() % 3]};
      if (random() % 3 != 0) rule.major = random() % 3;
      if (random() % 3 != 0) rule.minor = random() % 3;
      for (const char c : {'r', 'w', 'm'}) {
        if (random() % 2 == 0) rule.access += c;
      }
      asked.push_back(rule);
    }
    const auto rules = device_rules(asked).value();
    const auto program = device_program(rules);
    for (const char type : {'c', 'b'}) {
      for (uint32_t n = 0; n < 4 * 4 * 8; ++n) {
        const Access one{type, n & 3U, n >> 2U & 3U, n >> 4U};
        if (one.access == 0) continue;
        ASSERT_EQ(run(program, one), allowed(rules, one) ? 1 : 0)
            << round << type << one.major << ":" << one.minor << " " << one.access;
      }
    }
  }
}

TEST(Program, LegacyAgreesWhereItCanBeSaid) {
  // What v1 would hold, read back as rules, means the same.
  const std::vector<oci::DeviceRule> asked{
      {.allow = true, .type = 'a', .major = 3, .access = "rw"},
      {.allow = false, .type = 'c', .major = 3, .access = "w"}};
  const auto rules = device_rules(asked).value();
  const auto state = legacy_devices(rules).value();
  std::vector<Rule> again{Rule{.allow = state.allow_by_default}};
  again.insert(again.end(), state.exceptions.begin(), state.exceptions.end());
  for (uint32_t n = 0; n < 8 * 8 * 8; ++n) {
    const Access one{n % 2 == 0 ? 'c' : 'b', n & 7U, n >> 3U & 7U, n >> 6U};
    EXPECT_TRUE(one.access == 0 || allowed(again, one) == allowed(rules, one));
  }
}

}  // namespace
}  // namespace fluyt::runtime::cgroup
