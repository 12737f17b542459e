#include "runtime/seccomp/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <functional>
#include <random>
#include <set>

#include "runtime/seccomp/interpreter.h"
#include "runtime/seccomp/model.h"
#include "runtime/seccomp/profile.h"
#include "runtime/seccomp/table.h"
#include "sys/file.h"

namespace fluyt::runtime::seccomp {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kEperm = SECCOMP_RET_ERRNO | EPERM;
constexpr uint32_t kEnosys = SECCOMP_RET_ERRNO | ENOSYS;
constexpr uint32_t kX64 = AUDIT_ARCH_X86_64;
constexpr uint32_t kI386 = AUDIT_ARCH_I386;
using Args = std::array<uint64_t, 6>;

seccomp_data call(uint32_t arch, uint32_t number, const Args& args = {}) {
  seccomp_data data{};
  data.arch = arch;
  data.nr = static_cast<int>(number);
  std::copy(args.begin(), args.end(), data.args);
  return data;
}

uint32_t number(const char* name, Arch arch = Arch::kX86_64) {
  return static_cast<uint32_t>(find_syscall(name)->number(arch));
}

oci::Seccomp profile(std::vector<oci::SeccompSyscalls> syscalls,
                     std::string def = "SCMP_ACT_ERRNO") {
  return {.default_action = std::move(def),
          .architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"},
          .syscalls = std::move(syscalls)};
}

Program compiled(const oci::Seccomp& spec) {
  auto program = compile(spec);
  EXPECT_TRUE(program.ok()) << program.error().message();
  return program.ok() ? std::move(program).value() : Program{};
}

uint32_t answer(const Program& program, const seccomp_data& data) {
  const auto result = interpret(program.code, data);
  EXPECT_TRUE(result.has_value()) << "the kernel would refuse this program";
  return result.value_or(0xDEAD);
}

std::string error_of(const oci::Seccomp& spec) {
  const auto program = compile(spec);
  return program.ok() ? "no error" : program.error().message();
}

// ---------------------------------------------------------------- profiles

// The size and the shape of the profile that Docker, containerd and CRI-O use.
oci::Seccomp docker_size() {
  static const std::set<std::string_view> kLeftOut{"acct",
                                                   "add_key",
                                                   "bpf",
                                                   "clock_adjtime",
                                                   "clock_settime",
                                                   "create_module",
                                                   "delete_module",
                                                   "finit_module",
                                                   "get_kernel_syms",
                                                   "get_mempolicy",
                                                   "init_module",
                                                   "ioperm",
                                                   "iopl",
                                                   "kcmp",
                                                   "kexec_file_load",
                                                   "kexec_load",
                                                   "keyctl",
                                                   "lookup_dcookie",
                                                   "mbind",
                                                   "mount",
                                                   "move_pages",
                                                   "nfsservctl",
                                                   "open_by_handle_at",
                                                   "perf_event_open",
                                                   "personality",
                                                   "pivot_root",
                                                   "process_vm_readv",
                                                   "process_vm_writev",
                                                   "ptrace",
                                                   "query_module",
                                                   "quotactl",
                                                   "reboot",
                                                   "request_key",
                                                   "set_mempolicy",
                                                   "setns",
                                                   "settimeofday",
                                                   "socket",
                                                   "stime",
                                                   "swapon",
                                                   "swapoff",
                                                   "sysfs",
                                                   "_sysctl",
                                                   "syslog",
                                                   "umount",
                                                   "umount2",
                                                   "unshare",
                                                   "uselib",
                                                   "userfaultfd",
                                                   "ustat",
                                                   "vm86",
                                                   "vm86old",
                                                   "clone",
                                                   "clone3",
                                                   "vserver",
                                                   "fsopen",
                                                   "fsmount",
                                                   "fspick",
                                                   "fsconfig",
                                                   "move_mount",
                                                   "open_tree",
                                                   "io_uring_setup",
                                                   "io_uring_enter",
                                                   "io_uring_register"};
  oci::SeccompSyscalls allow{.names = {}, .action = "SCMP_ACT_ALLOW"};
  for (const Syscall& syscall : all_syscalls()) {
    if (!kLeftOut.contains(syscall.name)) allow.names.emplace_back(syscall.name);
  }
  std::vector<oci::SeccompSyscalls> rules{allow};
  for (const uint64_t persona : {0x0ULL, 0x8ULL, 0x20000ULL, 0x20008ULL, 0xffffffffULL}) {
    rules.push_back({.names = {"personality"},
                     .action = "SCMP_ACT_ALLOW",
                     .args = {{.index = 0, .value = persona, .op = "SCMP_CMP_EQ"}}});
  }
  rules.push_back({.names = {"socket"},
                   .action = "SCMP_ACT_ALLOW",
                   .args = {{.index = 0, .value = 40, .op = "SCMP_CMP_NE"}}});
  rules.push_back(
      {.names = {"clone"},
       .action = "SCMP_ACT_ALLOW",
       .args = {{.index = 0, .value = 2114060288, .value_two = 0, .op = "SCMP_CMP_MASKED_EQ"}}});
  rules.push_back({.names = {"clone3"}, .action = "SCMP_ACT_ERRNO", .errno_ret = ENOSYS});
  auto out = profile(rules);
  out.default_errno_ret = EPERM;
  return out;
}

oci::Seccomp operators() {
  std::vector<oci::SeccompSyscalls> rules;
  const std::vector<std::string> names{"read", "write", "open", "close", "lseek", "ioctl", "dup"};
  const auto ops = known_operators();
  for (size_t i = 0; i < ops.size(); ++i) {
    // One on the first argument with bits in both halves, one more on another.
    rules.push_back(
        {.names = {names[i]},
         .action = "SCMP_ACT_ALLOW",
         .args = {{.index = 0, .value = 0x1'8000'0005, .value_two = 0x1'0000'0001, .op = ops[i]},
                  {.index = 3, .value = 7, .value_two = 3, .op = ops[(i + 2) % ops.size()]}}});
  }
  return profile(rules);
}

oci::Seccomp deny_list() {
  return profile({{.names = {"mount", "umount2", "ptrace"}, .action = "SCMP_ACT_KILL_PROCESS"},
                  {.names = {"socket", "bind"},
                   .action = "SCMP_ACT_ERRNO",
                   .errno_ret = EAFNOSUPPORT,
                   .args = {{.index = 0, .value = 38, .op = "SCMP_CMP_EQ"}}},
                  {.names = {"kexec_load"}, .action = "SCMP_ACT_TRAP"},
                  {.names = {"uname"}, .action = "SCMP_ACT_LOG"},
                  {.names = {"shmget"}, .action = "SCMP_ACT_TRACE", .errno_ret = 77}},
                 "SCMP_ACT_ALLOW");
}

// ---------------------------------------------------------------- the oracle

/// The same profile through libseccomp, the way runc feeds it.
class Oracle {
 public:
  explicit Oracle(const oci::Seccomp& spec) {
    const Profile parsed = parse_profile(spec).value();
    context_ = seccomp_init(parsed.default_action);
    // The native one is there from the start.
    EXPECT_TRUE(!parsed.x86 || seccomp_arch_add(context_, SCMP_ARCH_X86) == 0);
    EXPECT_TRUE(!parsed.x32 || seccomp_arch_add(context_, SCMP_ARCH_X32) == 0);
    for (const Rule& rule : parsed.rules) {
      // The library refuses a rule that says what the default says, and runc leaves it out.
      if (rule.action != parsed.default_action) add(rule);
    }
    const int fd = memfd_create("filter", MFD_CLOEXEC);
    EXPECT_EQ(seccomp_export_bpf(context_, fd), 0);
    const off_t size = lseek(fd, 0, SEEK_END);
    code_.resize(static_cast<size_t>(size) / sizeof(Instruction));
    EXPECT_EQ(pread(fd, code_.data(), static_cast<size_t>(size), 0), size);
    close(fd);
    seccomp_release(context_);
  }
  uint32_t answer(const seccomp_data& data) const {
    return interpret(code_, data).value_or(0xDEAD);
  }
  size_t size() const { return code_.size(); }

 private:
  void add(const Rule& rule) {
    std::vector<scmp_arg_cmp> args;
    for (const Condition& c : rule.conditions) {
      constexpr scmp_compare kOps[] = {SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE,       SCMP_CMP_EQ,
                                       SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ};
      args.push_back({.arg = c.index,
                      .op = kOps[static_cast<size_t>(c.op)],
                      .datum_a = c.value,
                      .datum_b = c.value_two});
    }
    for (const Syscall* syscall : rule.calls) {
      const int resolved = seccomp_syscall_resolve_name(std::string(syscall->name).c_str());
      if (resolved == __NR_SCMP_ERROR) continue;  // newer than the library
      EXPECT_EQ(seccomp_rule_add_array(context_, rule.action, resolved,
                                       static_cast<unsigned>(args.size()), args.data()),
                0)
          << syscall->name;
    }
  }
  scmp_filter_ctx context_;
  std::vector<Instruction> code_;
};

bool library_knows(std::string_view name) {
  return seccomp_syscall_resolve_name(std::string(name).c_str()) != __NR_SCMP_ERROR;
}

/// Without the names that the library is too old for.
oci::Seccomp known_to_library(oci::Seccomp spec) {
  for (auto& entry : spec.syscalls)
    std::erase_if(entry.names, [](const std::string& n) { return !library_knows(n); });
  return spec;
}

std::vector<uint64_t> interesting_values(const oci::Seccomp& spec) {
  std::vector<uint64_t> out{0, 1, UINT64_MAX, UINT32_MAX, 1ULL << 32U};
  for (const auto& entry : spec.syscalls) {
    for (const auto& arg : entry.args) {
      for (const uint64_t value : {arg.value, arg.value_two}) {
        for (const uint64_t near :
             std::initializer_list<uint64_t>{value - 1, value, value + 1, value ^ (1ULL << 32U),
                                             value | (1ULL << 63U), value & UINT32_MAX})
          out.push_back(near);
      }
    }
  }
  return out;
}

/// All architectures, all numbers that exist and many that do not, with `rounds` argument sets
/// each.
void for_all_calls(const oci::Seccomp& spec, int rounds,
                   const std::function<void(const seccomp_data&)>& visit) {
  const auto values = interesting_values(spec);
  std::mt19937_64 random(20);
  std::vector<std::pair<uint32_t, uint32_t>> calls;
  for (uint32_t n = 0; n < 700; ++n) {
    calls.emplace_back(kX64, n);
    calls.emplace_back(kI386, n);
    calls.emplace_back(kX64, kX32Bit + n);
  }
  for (const uint32_t n :
       {1023U, 0x3FFFFFFFU, 0x40001000U, 0x7FFFFFFFU, 0x80000000U, 0xFFFFFFFEU, 0xFFFFFFFFU}) {
    calls.emplace_back(kX64, n);
    calls.emplace_back(kI386, n);
    calls.emplace_back(static_cast<uint32_t>(AUDIT_ARCH_AARCH64), n);
  }
  for (const auto& [arch, n] : calls) {
    for (int round = 0; round < rounds; ++round) {
      Args args{};
      for (uint64_t& arg : args)
        arg = random() % 4 == 0 ? random() >> (random() % 64) : values[random() % values.size()];
      visit(call(arch, n, args));
    }
  }
}

// 32-bit socket calls behind socketcall(2) are where we differ on purpose: see compile.cc.
bool is_multiplexed(const seccomp_data& data) {
  return data.arch == kI386 && (data.nr == kX86Socketcall || data.nr == kX86Ipc);
}

constexpr int kFew = 40;
constexpr int kMillion = 480;  // rounds over 2,100 numbers

void expect_as_library(const oci::Seccomp& full, int rounds = kFew) {
  const oci::Seccomp spec = known_to_library(full);
  const Program program = compiled(spec);
  const Oracle oracle(spec);
  const Profile parsed = parse_profile(spec).value();
  int compared = 0;
  int wrong = 0;
  for_all_calls(spec, rounds, [&](const seccomp_data& data) {
    if (is_multiplexed(data)) return;
    const uint32_t expected = model::is_new(parsed, data) ? kEnosys : oracle.answer(data);
    ++compared;
    const uint32_t got = answer(program, data);
    if (got == expected) return;
    if (++wrong > 5) return;
    ADD_FAILURE() << std::hex << "arch " << data.arch << " nr " << data.nr << " args "
                  << data.args[0] << " " << data.args[1] << " " << data.args[2] << " "
                  << data.args[3] << ": " << got << " instead of " << expected;
  });
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(compared, rounds * 2'000);
}

TEST(LikeLibseccomp, DockerSizeProfileOverAMillionCalls) {
  static_assert(kMillion * 2'100 > 1'000'000);
  expect_as_library(docker_size(), kMillion);
}
TEST(LikeLibseccomp, EveryOperatorOverAMillionCalls) { expect_as_library(operators(), kMillion); }
TEST(LikeLibseccomp, DenyList) { expect_as_library(deny_list()); }
TEST(LikeLibseccomp, NothingButADefault) {
  expect_as_library(profile({}, "SCMP_ACT_KILL_PROCESS"));
}

TEST(LikeLibseccomp, EverySetOfArchitectures) {
  for (const std::vector<std::string>& archs :
       {std::vector<std::string>{},
        {"SCMP_ARCH_X86_64"},
        {"SCMP_ARCH_X86"},
        {"SCMP_ARCH_X32"},
        {"SCMP_ARCH_X86_64", "SCMP_ARCH_X32"},
        {"SCMP_ARCH_X86", "SCMP_ARCH_X86_64"},
        {"SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_S390X"}}) {
    for (oci::Seccomp spec : {docker_size(), operators(), deny_list()}) {
      spec.architectures = archs;
      expect_as_library(spec, 8);
    }
  }
}

TEST(LikeLibseccomp, Notifications) {
  oci::Seccomp spec = profile({{.names = {"mkdir", "openat"}, .action = "SCMP_ACT_NOTIFY"},
                               {.names = {"mount"},
                                .action = "SCMP_ACT_NOTIFY",
                                .args = {{.index = 3, .value = 4096, .op = "SCMP_CMP_LT"}}}},
                              "SCMP_ACT_ALLOW");
  spec.listener_path = "/run/listener.sock";
  expect_as_library(spec);
}

// What the library can say too: each call in one rule, each argument compared once.
oci::Seccomp random_profile_for_library(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto all = all_syscalls();
  const auto ops = known_operators();
  const std::vector<std::string> actions{
      "SCMP_ACT_ALLOW",        "SCMP_ACT_ERRNO",       "SCMP_ACT_TRAP", "SCMP_ACT_LOG",
      "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_TRACE"};
  const std::string& otherwise = actions[random() % actions.size()];
  std::set<std::string_view> used;
  std::vector<oci::SeccompSyscalls> rules;
  for (int i = 0; i < 24; ++i) {
    oci::SeccompSyscalls rule{.names = {}, .action = actions[random() % actions.size()]};
    if (rule.action == otherwise) continue;
    for (uint64_t k = random() % 20 + 1; k > 0; --k) {
      const std::string_view name = all[random() % all.size()].name;
      if (used.insert(name).second) rule.names.emplace_back(name);
    }
    if (rule.action == "SCMP_ACT_ERRNO" || rule.action == "SCMP_ACT_TRACE")
      rule.errno_ret = random() % 4096;
    std::array<uint32_t, 6> indexes{0, 1, 2, 3, 4, 5};
    std::ranges::shuffle(indexes, random);
    for (uint64_t k = random() % 4; k > 0; --k) {
      rule.args.push_back({.index = indexes[k],
                           .value = random() >> (random() % 64),
                           .value_two = random() >> (random() % 64),
                           .op = ops[random() % ops.size()]});
    }
    rules.push_back(rule);
  }
  return profile(rules, otherwise);
}

TEST(LikeLibseccomp, RandomProfiles) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    expect_as_library(random_profile_for_library(seed), 12);
  }
}

TEST(LikeLibseccomp, NumbersAgree) {
  const std::pair<Arch, uint32_t> archs[] = {{Arch::kX86_64, SCMP_ARCH_X86_64},
                                             {Arch::kX86, SCMP_ARCH_X86},
                                             {Arch::kX32, SCMP_ARCH_X32},
                                             {Arch::kAarch64, SCMP_ARCH_AARCH64},
                                             {Arch::kArm, SCMP_ARCH_ARM}};
  int compared = 0;
  for (const Syscall& syscall : all_syscalls()) {
    for (const auto& [arch, theirs] : archs) {
      const int other =
          seccomp_syscall_resolve_name_arch(theirs, std::string(syscall.name).c_str());
      if (other < 0) continue;
      ++compared;
      EXPECT_EQ(syscall.number(arch), other) << syscall.name << " on " << static_cast<int>(arch);
    }
  }
  EXPECT_GT(compared, 1700);
}

// ---------------------------------------------------------------- the model

oci::Seccomp random_profile(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto all = all_syscalls();
  const auto ops = known_operators();
  const std::vector<std::string> actions{"SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_TRAP",
                                         "SCMP_ACT_LOG", "SCMP_ACT_KILL_PROCESS"};
  std::vector<oci::SeccompSyscalls> rules;
  for (int i = 0; i < 16; ++i) {
    oci::SeccompSyscalls rule{.names = {}, .action = actions[random() % actions.size()]};
    for (uint64_t k = random() % 12 + 1; k > 0; --k)
      rule.names.emplace_back(all[random() % all.size()].name);
    if (rule.action == "SCMP_ACT_ERRNO") rule.errno_ret = random() % 100;
    // Several on one argument, too.
    for (uint64_t k = random() % 4; k > 0; --k) {
      rule.args.push_back({.index = static_cast<uint32_t>(random() % 3),
                           .value = random() >> (random() % 64),
                           .value_two = random() >> (random() % 64),
                           .op = ops[random() % ops.size()]});
    }
    rules.push_back(rule);
  }
  return profile(rules, actions[random() % actions.size()]);
}

TEST(Meaning, RandomProfiles) {
  const std::vector<std::vector<std::string>> archs{
      {"SCMP_ARCH_X86", "SCMP_ARCH_X32"}, {"SCMP_ARCH_X86"}, {"SCMP_ARCH_X32"}, {}};
  for (uint64_t seed = 1; seed <= 24; ++seed) {
    oci::Seccomp spec = random_profile(seed);
    spec.architectures = archs[seed % archs.size()];
    const Program program = compiled(spec);
    const Profile parsed = parse_profile(spec).value();
    int wrong = 0;
    for_all_calls(spec, kFew, [&](const seccomp_data& data) {
      if (answer(program, data) != model::meaning(parsed, data) && ++wrong < 4) {
        ADD_FAILURE() << "seed " << seed << std::hex << " arch " << data.arch << " nr " << data.nr;
      }
    });
    EXPECT_EQ(wrong, 0) << "seed " << seed;
  }
}

TEST(Meaning, TheFirstOfTwoConditionsDecidesAlsoWhereItSaysWhatTheDefaultSays) {
  // A family forbidden by name, before a range that has it in it.
  const Program program =
      compiled(profile({{.names = {"socket"},
                         .action = "SCMP_ACT_ERRNO",
                         .args = {{.index = 0, .value = 38, .op = "SCMP_CMP_EQ"}}},
                        {.names = {"socket"},
                         .action = "SCMP_ACT_ALLOW",
                         .args = {{.index = 0, .value = 40, .op = "SCMP_CMP_LT"}}}}));
  EXPECT_EQ(answer(program, call(kX64, number("socket"), {AF_UNIX})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(program, call(kX64, number("socket"), {AF_ALG})), kEperm);
  EXPECT_EQ(answer(program, call(kX64, number("socket"), {AF_VSOCK})), kEperm);
  EXPECT_EQ(answer(program, call(kI386, number("socket", Arch::kX86), {AF_ALG})), kEperm);
  EXPECT_EQ(answer(program, call(kI386, kX86Socketcall, {1})), kEperm);
}

TEST(Meaning, AFamilyIsComparedWhole) {
  // The kernel takes an int: what a caller adds above it must not lead past the rule on any width.
  const Program program = compiled(profile(
      {{.names = {"socket"},
        .action = "SCMP_ACT_ERRNO",
        .errno_ret = EAFNOSUPPORT,
        .args =
            {{.index = 0, .value = UINT32_MAX, .value_two = AF_ALG, .op = "SCMP_CMP_MASKED_EQ"}}}},
      "SCMP_ACT_ALLOW"));
  for (const uint64_t family :
       std::initializer_list<uint64_t>{AF_ALG, AF_ALG | 1ULL << 32U, AF_ALG | 1ULL << 63U}) {
    for (const auto& [arch, nr] : std::initializer_list<std::pair<uint32_t, uint32_t>>{
             {kX64, number("socket")},
             {kX64, number("socket", Arch::kX32)},
             {kI386, number("socket", Arch::kX86)}}) {
      EXPECT_EQ(answer(program, call(arch, nr, {family})), SECCOMP_RET_ERRNO | EAFNOSUPPORT)
          << family;
    }
  }
  EXPECT_EQ(answer(program, call(kI386, kX86Socketcall, {1})), SECCOMP_RET_ERRNO | EAFNOSUPPORT);
}

TEST(Meaning, TwoComparesOnOneArgumentMustBothHold) {
  // libseccomp refuses this, and runc then reads it as "either".
  const Program program =
      compiled(profile({{.names = {"dup2"},
                         .action = "SCMP_ACT_ALLOW",
                         .args = {{.index = 0, .value = 3, .op = "SCMP_CMP_GE"},
                                  {.index = 0, .value = 9, .op = "SCMP_CMP_LT"}}}}));
  const uint32_t dup2 = number("dup2");
  EXPECT_EQ(answer(program, call(kX64, dup2, {2})), kEperm);
  EXPECT_EQ(answer(program, call(kX64, dup2, {3})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(program, call(kX64, dup2, {8})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(program, call(kX64, dup2, {9})), kEperm);
  EXPECT_EQ(answer(program, call(kX64, dup2, {3 | 1ULL << 32U})), kEperm);
}

TEST(Meaning, CallsNewerThanTheProfileGetEnosys) {
  const Program program =
      compiled(profile({{.names = {"read", "openat2"}, .action = "SCMP_ACT_ALLOW"}}));
  EXPECT_EQ(answer(program, call(kX64, number("openat2"))), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(program, call(kX64, number("openat2") + 1)), kEnosys);
  EXPECT_EQ(answer(program, call(kX64, 9999)), kEnosys);
  EXPECT_EQ(answer(program, call(kX64, number("openat2") - 1)), kEperm);
  EXPECT_EQ(answer(program, call(kI386, number("openat2", Arch::kX86) + 1)), kEnosys);
}

TEST(Meaning, NoEnosysWhereTheDefaultLetsThrough) {
  for (const char* action : {"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"}) {
    const Program program =
        compiled(profile({{.names = {"read"}, .action = "SCMP_ACT_TRAP"}}, action));
    EXPECT_NE(answer(program, call(kX64, 9999)), kEnosys) << action;
  }
}

TEST(Meaning, ForeignCallersAreKilled) {
  oci::Seccomp spec = profile({{.names = {"read"}, .action = "SCMP_ACT_ALLOW"}});
  spec.architectures = {"SCMP_ARCH_X86_64"};
  const Program program = compiled(spec);
  EXPECT_EQ(answer(program, call(kI386, 3)), SECCOMP_RET_KILL_THREAD);
  EXPECT_EQ(answer(program, call(kX64, kX32Bit)), SECCOMP_RET_KILL_THREAD);
  EXPECT_EQ(answer(program, call(kX64, 0)), SECCOMP_RET_ALLOW);
}

TEST(Meaning, NativeArchitectureIsAlwaysThere) {
  for (const std::vector<std::string>& archs :
       {std::vector<std::string>{}, {"SCMP_ARCH_X86"}, {"SCMP_ARCH_S390X"}}) {
    oci::Seccomp spec = profile({{.names = {"read"}, .action = "SCMP_ACT_ALLOW"}});
    spec.architectures = archs;
    EXPECT_EQ(answer(compiled(spec), call(kX64, 0)), SECCOMP_RET_ALLOW);
  }
}

TEST(Meaning, SocketcallFollowsTheSocketRules) {
  const Program program =
      compiled(profile({{.names = {"connect", "recv", "shmat"}, .action = "SCMP_ACT_ALLOW"}}));
  EXPECT_EQ(answer(program, call(kI386, kX86Socketcall, {3})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(program, call(kI386, kX86Socketcall, {10})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(program, call(kI386, kX86Socketcall, {1})), kEperm);
  EXPECT_EQ(answer(program, call(kI386, kX86Ipc, {21})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(program, call(kI386, kX86Ipc, {21 | 1U << 16U})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(program, call(kI386, kX86Ipc, {22})), kEperm);
}

TEST(Meaning, SocketcallIsNoWayRoundAConditionalRule) {
  // A filter cannot see the family behind socketcall's pointer, so it must not pass.
  const Program allow =
      compiled(profile({{.names = {"socket"},
                         .action = "SCMP_ACT_ALLOW",
                         .args = {{.index = 0, .value = 40, .op = "SCMP_CMP_NE"}}}}));
  EXPECT_EQ(answer(allow, call(kI386, number("socket", Arch::kX86), {2})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(answer(allow, call(kI386, kX86Socketcall, {1})), kEperm);
  const Program deny = compiled(deny_list());
  EXPECT_EQ(answer(deny, call(kI386, kX86Socketcall, {1})), SECCOMP_RET_ERRNO | EAFNOSUPPORT);
  EXPECT_EQ(answer(deny, call(kI386, kX86Socketcall, {3})), SECCOMP_RET_ALLOW);
}

// ---------------------------------------------------------------- errors

TEST(Errors, NameTheField) {
  EXPECT_THAT(
      error_of(profile({}, "SCMP_ACT_NOPE")),
      HasSubstr("linux.seccomp.defaultAction: \"SCMP_ACT_NOPE\": expected one of SCMP_ACT_KILL"));
  EXPECT_THAT(error_of(profile({{.names = {"read"}, .action = "ALLOW"}})),
              HasSubstr("linux.seccomp.syscalls[0].action: \"ALLOW\""));
  EXPECT_THAT(
      error_of(profile(
          {{.names = {"read"}, .action = "SCMP_ACT_ALLOW", .args = {{.index = 0, .op = "=="}}}})),
      HasSubstr("linux.seccomp.syscalls[0].args[0].op: \"==\""));
  EXPECT_THAT(error_of(profile({{.names = {"read"},
                                 .action = "SCMP_ACT_ALLOW",
                                 .args = {{.index = 6, .op = "SCMP_CMP_EQ"}}}})),
              HasSubstr("args[0].index: 6: expected 0 to 5"));
  EXPECT_THAT(error_of(profile({{.names = {"read"}, .action = "SCMP_ACT_ALLOW", .errno_ret = 1}})),
              HasSubstr("errnoRet: 1: SCMP_ACT_ALLOW takes no errno"));
  EXPECT_THAT(
      error_of(profile({{.names = {"read"}, .action = "SCMP_ACT_ERRNO", .errno_ret = 4096}})),
      HasSubstr("errnoRet: 4096: expected 0 to 4095"));
  oci::Seccomp arch = profile({});
  arch.architectures.push_back("SCMP_ARCH_VAX");
  EXPECT_THAT(error_of(arch), HasSubstr("linux.seccomp.architectures[3]: \"SCMP_ARCH_VAX\""));
  oci::Seccomp flag = profile({});
  flag.flags = {"SECCOMP_FILTER_FLAG_LOG", "LOG"};
  EXPECT_THAT(error_of(flag), HasSubstr("linux.seccomp.flags[1]: \"LOG\""));
}

TEST(Meaning, SpeculationIsLeftAloneWhereFlagsAreAbsent) {
  oci::Seccomp spec = profile({});
  spec.flags.reset();
  EXPECT_EQ(compiled(spec).flags, uint32_t{SECCOMP_FILTER_FLAG_SPEC_ALLOW});
  spec.flags.emplace();
  EXPECT_EQ(compiled(spec).flags, 0U);
}

TEST(Errors, NotifyNeedsAListenerAndSparesWrite) {
  EXPECT_THAT(error_of(profile({{.names = {"mkdir"}, .action = "SCMP_ACT_NOTIFY"}})),
              HasSubstr("listenerPath"));
  EXPECT_THAT(error_of(profile({{.names = {"write"}, .action = "SCMP_ACT_NOTIFY"}})),
              HasSubstr("stop the runtime itself"));
  EXPECT_THAT(error_of(profile({}, "SCMP_ACT_NOTIFY")), HasSubstr("only single calls"));
}

TEST(Errors, UnknownNamesAreListedNotRefused) {
  EXPECT_THAT(
      compiled(profile({{.names = {"read", "quux"}, .action = "SCMP_ACT_ALLOW"}})).unknown_names,
      ElementsAre("quux"));
}

TEST(Errors, TooManyInstructions) {
  std::vector<oci::SeccompSyscalls> rules;
  for (uint64_t i = 0; i < 2000; ++i) {
    rules.push_back({.names = {"ioctl"},
                     .action = "SCMP_ACT_ALLOW",
                     .args = {{.index = 1, .value = i << 20U, .op = "SCMP_CMP_EQ"}}});
  }
  EXPECT_THAT(error_of(profile(rules)), HasSubstr("the kernel takes at most 4096"));
}

TEST(Jumps, BeyondOneByte) {
  std::vector<oci::SeccompSyscalls> rules;
  for (uint64_t i = 0; i < 300; ++i) {
    rules.push_back({.names = {"ioctl"},
                     .action = i % 2 == 0 ? "SCMP_ACT_ALLOW" : "SCMP_ACT_TRAP",
                     .args = {{.index = 1, .value = i << 31U, .op = "SCMP_CMP_EQ"}}});
  }
  oci::Seccomp spec = profile(rules);
  spec.architectures = {};
  const Program program = compiled(spec);
  EXPECT_GT(program.code.size(), 1000U);
  for (uint64_t i = 0; i < 300; ++i) {
    EXPECT_EQ(answer(program, call(kX64, 16, {0, i << 31U})),
              i % 2 == 0 ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP)
        << i;
  }
  EXPECT_EQ(answer(program, call(kX64, 16, {0, 300ULL << 31U})), kEperm);
  EXPECT_EQ(answer(program, call(kX64, 15)), kEperm);
}

// ---------------------------------------------------------------- the kernel

int in_child(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

TEST(Kernel, TakesTheDockerSizeProfileAndObeysIt) {
  const Program program = compiled(docker_size());
  EXPECT_EQ(in_child([&] {
              prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
              if (!load(program).ok()) return 1;
              if (syscall(SYS_unshare, 0x10000000) != -1 || errno != EPERM) return 2;
              if (syscall(SYS_clone3, nullptr, 0) != -1 || errno != ENOSYS) return 3;
              if (syscall(9999) != -1 || errno != ENOSYS) return 4;
              if (socket(40, SOCK_STREAM, 0) != -1 || errno != EPERM) return 5;
              const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
              return fd >= 0 && getpid() > 0 ? 0 : 6;
            }),
            0);
}

TEST(Kernel, KillProcessKills) {
  const Program program = compiled(deny_list());
  EXPECT_EQ(in_child([&] {
              prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
              if (!load(program).ok()) return 1;
              syscall(SYS_ptrace, 0, 0, 0, 0);
              return 2;
            }),
            256 + SIGSYS);
}

TEST(Kernel, EveryFlagIsTaken) {
  EXPECT_THAT(supported_flags(), Contains("SECCOMP_FILTER_FLAG_TSYNC"));
  oci::Seccomp spec =
      profile({{.names = {"ptrace"}, .action = "SCMP_ACT_ERRNO"}}, "SCMP_ACT_ALLOW");
  spec.flags = supported_flags();
  const Program program = compiled(spec);
  EXPECT_EQ(in_child([&] {
              prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
              if (!load(program).ok()) return 1;
              return syscall(SYS_ptrace, 0, 0, 0, 0) == -1 && errno == EPERM ? 0 : 2;
            }),
            0);
}

TEST(Kernel, NotifyGivesAListener) {
  oci::Seccomp spec =
      profile({{.names = {"mkdir"}, .action = "SCMP_ACT_NOTIFY"}}, "SCMP_ACT_ALLOW");
  spec.listener_path = "/run/listener.sock";
  for (const bool sync : {false, true}) {
    spec.flags.reset();
    if (sync) spec.flags = {"SECCOMP_FILTER_FLAG_TSYNC"};
    const Program program = compiled(spec);
    EXPECT_TRUE(program.notifies);
    EXPECT_EQ(in_child([&] {
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                auto listener = load(program);
                return listener.ok() && listener->valid() ? 0 : 1;
              }),
              0);
  }
}

TEST(Arguments, SeveralValuesOfOneArgumentAreAlternatives) {
  const auto equal = [](uint32_t index, uint64_t value) {
    return oci::SeccompArg{.index = index, .value = value, .op = "SCMP_CMP_EQ"};
  };
  const Program program = compiled(profile({{.names = {"ptrace"},
                                             .action = "SCMP_ACT_ERRNO",
                                             .args = {equal(0, 100), equal(0, 9001), equal(1, 7)}}},
                                           "SCMP_ACT_ALLOW"));
  const auto refused = [&](long first, long second) {
    return in_child([&] {
             prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
             if (!load(program).ok()) return 2;
             return syscall(SYS_ptrace, first, second, 0, 0) == -1 && errno == EPERM ? 1 : 0;
           }) == 1;
  };
  EXPECT_TRUE(refused(100, 7));
  EXPECT_TRUE(refused(9001, 7));
  EXPECT_FALSE(refused(100, 8));
  EXPECT_FALSE(refused(101, 7));
}

TEST(Arguments, RangesOfOneArgumentMustHoldTogether) {
  const Program program =
      compiled(profile({{.names = {"ptrace"},
                         .action = "SCMP_ACT_ERRNO",
                         .args = {{.index = 0, .value = 1000, .op = "SCMP_CMP_GE"},
                                  {.index = 0, .value = 2000, .op = "SCMP_CMP_LE"}}}},
                       "SCMP_ACT_ALLOW"));
  for (const auto& [value, wanted] : {std::pair{999L, 0}, {1000L, 1}, {2000L, 1}, {2001L, 0}}) {
    EXPECT_EQ(in_child([&, v = value] {
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                if (!load(program).ok()) return 2;
                return syscall(SYS_ptrace, v, 0, 0, 0) == -1 && errno == EPERM ? 1 : 0;
              }),
              wanted)
        << value;
  }
}

TEST(Cost, DockerSizeProfileCompilesWellBelowAMillisecond) {
  const oci::Seccomp spec = docker_size();
  size_t names = 0;
  for (const auto& entry : spec.syscalls) names += entry.names.size();
  int64_t best = INT64_MAX;
  size_t size = 0;
  for (int i = 0; i < 200; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const Program program = compiled(spec);
    best = std::min<int64_t>(best, std::chrono::duration_cast<std::chrono::microseconds>(
                                       std::chrono::steady_clock::now() - start)
                                       .count());
    size = program.code.size();
  }
  const Oracle oracle(known_to_library(spec));
  RecordProperty("microseconds", static_cast<int>(best));
  printf("%zu names: %zu instructions (libseccomp %zu), %lld us\n", names, size, oracle.size(),
         static_cast<long long>(best));
  EXPECT_LT(best, 1000);
  EXPECT_LT(size, 700U);
}

TEST(Cost, DockerSizeProfileLoadsWellBelowAMillisecond) {
  const Program program = compiled(docker_size());
  auto* best = static_cast<int64_t*>(
      mmap(nullptr, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(best, MAP_FAILED);
  *best = INT64_MAX;
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(in_child([&] {
                prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                const auto start = std::chrono::steady_clock::now();
                if (!load(program).ok()) return 1;
                const auto took = std::chrono::duration_cast<std::chrono::microseconds>(
                    std::chrono::steady_clock::now() - start);
                *best = std::min<int64_t>(*best, took.count());
                return 0;
              }),
              0);
  }
  printf("loaded in %lld us\n", static_cast<long long>(*best));
  EXPECT_LT(*best, 2000);
  munmap(best, sizeof(int64_t));
}

}  // namespace
}  // namespace fluyt::runtime::seccomp
