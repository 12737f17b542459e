#include "runtime/seccomp/compile.h"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include "base/strings.h"
#include "runtime/seccomp/assembler.h"
#include "runtime/seccomp/profile.h"
#include "runtime/seccomp/table.h"

namespace fluyt::runtime::seccomp {

namespace {

constexpr uint32_t kNoCall = 0xFFFFFFFF;  // what a tracer writes to skip a call
constexpr uint32_t kNew = SECCOMP_RET_ERRNO | ENOSYS;
/// For an architecture (or x32) that the profile does not list.
constexpr Action kForeign = SECCOMP_RET_KILL_THREAD;

/// How wide the arguments are: 32-bit callers' are compared in their lower half alone.
enum class Width : uint8_t { k32, k64 };

/// One rule as it applies to one number.
struct Case {
  Action action = 0;
  std::span<const Condition> conditions;
};

/// A number, and a rule that names it. Sorted by number they make the tree; equal numbers stay in
/// the profile's order.
struct Entry {
  uint32_t number = 0;
  Case rule;
  size_t place = 0;  // in the profile's order
};

/// From `first` up to the next range: one action, or cases to be tried in order with `action` at
/// the end.
struct Range {
  uint32_t first = 0;
  Action action = 0;
  std::vector<Case> cases;
  Width width = Width::k64;
};

/// Conditions on the first argument of socketcall and ipc; kept apart so that the spans stay valid.
constexpr size_t kMaxMultiplexed = 32;

class Compiler {
 public:
  explicit Compiler(const Profile& profile) : profile_(profile) {
    multiplexed_.reserve(kMaxMultiplexed);
  }

  Result<Program> run();

 private:
  std::vector<Entry> entries(Arch arch);
  void add_multiplexed(const Syscall& call, const Rule& rule, std::vector<Entry>& out);
  std::span<const Condition> first_argument_is(const Multiplexed& call);
  /// Appends the ranges of one number space: [first, end) with `entries` in it.
  void add_ranges(const std::vector<Entry>& entries, uint32_t first, uint32_t end, Width width,
                  Arch arch, std::vector<Range>& out) const;
  void add_range(Range range, std::vector<Range>& out) const;
  Range range_of(uint32_t number, std::span<const Entry> rules, Width width) const;
  Assembler::Label section(const std::vector<Range>& ranges);
  Assembler::Label tree(std::span<const Range> ranges);
  Assembler::Label leaf(const Range& range);
  Assembler::Label test(const Condition& condition, Width width, Assembler::Label yes,
                        Assembler::Label no);
  std::vector<Range> native_ranges();
  std::vector<Range> companion_ranges(Arch arch);

  const Profile& profile_;
  Assembler out_;
  std::vector<Condition> multiplexed_;
};

uint32_t low(uint64_t value) { return static_cast<uint32_t>(value); }
uint32_t high(uint64_t value) { return static_cast<uint32_t>(value >> 32U); }

// The kernel's order of severity (seccomp(2)): of several filters the most severe answer wins.
int permissiveness(Action action) {
  switch (action & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_KILL_PROCESS:
      return 0;
    case SECCOMP_RET_KILL_THREAD:
      return 1;
    case SECCOMP_RET_TRAP:
      return 2;
    case SECCOMP_RET_ERRNO:
      return 3;
    case SECCOMP_RET_USER_NOTIF:
      return 4;
    case SECCOMP_RET_TRACE:
      return 5;
    case SECCOMP_RET_LOG:
      return 6;
    default:
      return 7;
  }
}

std::span<const Condition> Compiler::first_argument_is(const Multiplexed& call) {
  // ipc(2) carries a version above the call's number.
  const uint64_t mask = call.through == kX86Ipc ? 0xFFFF : 0xFFFFFFFF;
  const Condition wanted{
      .index = 0, .op = Operator::kMaskedEqual, .value = mask, .value_two = call.first_argument};
  for (const Condition& one : multiplexed_) {
    if (one == wanted) return {&one, 1};
  }
  multiplexed_.push_back(wanted);
  return {&multiplexed_.back(), 1};
}

void Compiler::add_multiplexed(const Syscall& syscall, const Rule& rule, std::vector<Entry>& out) {
  const Multiplexed* call = find_multiplexed(syscall.name);
  if (call == nullptr) return;
  // The arguments proper lie in memory behind a pointer, which a filter cannot read. So a rule with
  // conditions can forbid the call made this way, but never permit it: permitting it whatever its
  // arguments (as libseccomp does) would undo the conditions.
  if (!rule.conditions.empty() &&
      permissiveness(rule.action) > permissiveness(profile_.default_action))
    return;
  out.push_back({.number = static_cast<uint32_t>(call->through),
                 .rule = {.action = rule.action, .conditions = first_argument_is(*call)}});
}

std::vector<Entry> Compiler::entries(Arch arch) {
  std::vector<Entry> out;
  out.reserve(512);
  for (const Rule& rule : profile_.rules) {
    for (const Syscall* call : rule.calls) {
      if (call->number(arch) >= 0) {
        out.push_back({.number = static_cast<uint32_t>(call->number(arch)),
                       .rule = {.action = rule.action, .conditions = rule.conditions}});
      }
      if (arch == Arch::kX86) add_multiplexed(*call, rule, out);
    }
  }
  for (size_t i = 0; i < out.size(); ++i) out[i].place = i;
  // The library's stable sort rests on a deprecated function of its own, which clang tells of.
  std::ranges::sort(out, {}, [](const Entry& e) { return std::pair(e.number, e.place); });
  return out;
}

Range Compiler::range_of(uint32_t number, std::span<const Entry> rules, Width width) const {
  Range range{.first = number, .action = profile_.default_action, .cases = {}, .width = width};
  // A rule without conditions decides, wherever it stands, and the first one of them (libseccomp's
  // reading, on which profiles rest: "allow socket" next to "allow socket with ...").
  const auto plain =
      std::ranges::find_if(rules, [](const Entry& e) { return e.rule.conditions.empty(); });
  if (plain != rules.end()) {
    range.action = plain->rule.action;
    return range;
  }
  for (const Entry& entry : rules) range.cases.push_back(entry.rule);
  return range;
}

// A neighbour with the same plain action is the same range.
void Compiler::add_range(Range range, std::vector<Range>& out) const {
  if (!out.empty() && out.back().first == range.first) out.pop_back();
  if (!out.empty() && out.back().cases.empty() && range.cases.empty() &&
      out.back().action == range.action)
    return;
  out.push_back(std::move(range));
}

void Compiler::add_ranges(const std::vector<Entry>& entries, uint32_t first, uint32_t end,
                          Width width, Arch arch, std::vector<Range>& out) const {
  const auto fill = [&](uint32_t from, Action action) {
    if (from < end) add_range({.first = from, .action = action, .cases = {}, .width = width}, out);
  };
  uint32_t next = first;
  for (size_t at = 0; at < entries.size();) {
    const uint32_t number = entries[at].number;
    size_t behind = at;
    while (behind < entries.size() && entries[behind].number == number) ++behind;
    if (number > next) fill(next, profile_.default_action);
    add_range(range_of(number, std::span(entries).subspan(at, behind - at), width), out);
    next = number + 1;
    at = behind;
  }
  const int32_t last = profile_.last[static_cast<size_t>(arch)];
  if (profile_.answers_new_calls_with_enosys && last >= 0) {
    const uint32_t first_new = static_cast<uint32_t>(last) + 1;
    if (first_new > next) fill(next, profile_.default_action);
    fill(std::max(next, first_new), kNew);
  } else {
    fill(next, profile_.default_action);
  }
}

// The whole space of the native architecture; on x86_64 with x32, whose numbers lie above a bit.
std::vector<Range> Compiler::native_ranges() {
  std::vector<Range> out;
#if defined(__x86_64__)
  add_ranges(entries(Arch::kX86_64), 0, kX32Bit, Width::k64, Arch::kX86_64, out);
  if (profile_.x32) {
    add_ranges(entries(Arch::kX32), kX32Bit, kNoCall, Width::k32, Arch::kX32, out);
  } else {
    add_range({.first = kX32Bit, .action = kForeign, .cases = {}}, out);
  }
#elif defined(__aarch64__)
  add_ranges(entries(Arch::kAarch64), 0, kNoCall, Width::k64, Arch::kAarch64, out);
#else
#error "no system-call table for this architecture"
#endif
  add_range({.first = kNoCall, .action = profile_.default_action, .cases = {}}, out);
  return out;
}

std::vector<Range> Compiler::companion_ranges(Arch arch) {
  std::vector<Range> out;
  add_ranges(entries(arch), 0, kNoCall, Width::k32, arch, out);
  add_range({.first = kNoCall, .action = profile_.default_action, .cases = {}}, out);
  return out;
}

// yes and no lie behind; the test itself needs up to two halves. For 64 bits the upper half decides
// unless it is equal.
Assembler::Label Compiler::test(const Condition& c, Width width, Assembler::Label yes,
                                Assembler::Label no) {
  switch (c.op) {  // half of the operators are the others upside down
    case Operator::kNotEqual:
      return test({c.index, Operator::kEqual, c.value, 0}, width, no, yes);
    case Operator::kLess:
      return test({c.index, Operator::kGreaterOrEqual, c.value, 0}, width, no, yes);
    case Operator::kLessOrEqual:
      return test({c.index, Operator::kGreater, c.value, 0}, width, no, yes);
    default:
      break;
  }
  static_assert(std::endian::native == std::endian::little);
  const auto low_offset =
      static_cast<uint32_t>(offsetof(seccomp_data, args) + sizeof(uint64_t) * c.index);
  const uint32_t high_offset = low_offset + sizeof(uint32_t);
  if (c.op == Operator::kMaskedEqual) {
    const uint64_t expected = c.value & c.value_two;
    Assembler::Label at = out_.branch(BPF_JEQ, low(expected), yes, no);
    at = out_.load(low_offset, out_.mask(low(c.value), at));
    if (width == Width::k32 || high(c.value) == 0) return at;
    at = out_.branch(BPF_JEQ, high(expected), at, no);
    return out_.load(high_offset, out_.mask(high(c.value), at));
  }
  const uint16_t operation = c.op == Operator::kEqual     ? BPF_JEQ
                             : c.op == Operator::kGreater ? BPF_JGT
                                                          : BPF_JGE;
  Assembler::Label at = out_.load(low_offset, out_.branch(operation, low(c.value), yes, no));
  if (width == Width::k32) return at;
  at = out_.branch(BPF_JEQ, high(c.value), at, no);
  if (c.op != Operator::kEqual) at = out_.branch(BPF_JGT, high(c.value), yes, at);
  return out_.load(high_offset, at);
}

Assembler::Label Compiler::leaf(const Range& range) {
  Assembler::Label next = out_.answer(range.action);
  // Written from the last case to the first: where one does not hold, the next is tried.
  for (size_t i = range.cases.size(); i-- > 0;) {
    const Assembler::Label no = next;
    Assembler::Label at = out_.answer(range.cases[i].action);
    const auto conditions = range.cases[i].conditions;
    for (size_t j = conditions.size(); j-- > 0;) at = test(conditions[j], range.width, at, no);
    next = at;
  }
  return next;
}

// Balanced by the number of ranges: the kernel runs the filter once for every number when it is
// loaded, to learn which are always allowed, so the depth is what loading costs.
Assembler::Label Compiler::tree(std::span<const Range> ranges) {
  if (ranges.size() == 1) return leaf(ranges[0]);
  const size_t middle = ranges.size() / 2;
  const Assembler::Label upper = tree(ranges.subspan(middle));
  const Assembler::Label lower = tree(ranges.first(middle));
  return out_.branch(BPF_JGE, ranges[middle].first, upper, lower);
}

Assembler::Label Compiler::section(const std::vector<Range>& ranges) {
  return out_.load(offsetof(seccomp_data, nr), tree(ranges));
}

Result<Program> Compiler::run() {
  Assembler::Label next = out_.answer(kForeign);
#if defined(__x86_64__)
  constexpr uint32_t kNative = AUDIT_ARCH_X86_64;
  if (profile_.x86) {
    const Assembler::Label foreign = next;
    const Assembler::Label section_x86 = section(companion_ranges(Arch::kX86));
    next = out_.branch(BPF_JEQ, AUDIT_ARCH_I386, section_x86, foreign);
  }
#elif defined(__aarch64__)
  constexpr uint32_t kNative = AUDIT_ARCH_AARCH64;
  if (profile_.arm) {
    const Assembler::Label foreign = next;
    const Assembler::Label section_arm = section(companion_ranges(Arch::kArm));
    next = out_.branch(BPF_JEQ, AUDIT_ARCH_ARM, section_arm, foreign);
  }
#endif
  const Assembler::Label native = section(native_ranges());
  out_.load(offsetof(seccomp_data, arch), out_.branch(BPF_JEQ, kNative, native, next));
  if (out_.size() > kMaxInstructions) {
    return Error(Code::kResourceExhausted,
                 cat("linux.seccomp: the profile makes ", out_.size(),
                     " instructions: the kernel takes at most ", kMaxInstructions));
  }
  return Program{.code = out_.take(),
                 .flags = profile_.flags,
                 .notifies = profile_.notifies,
                 .unknown_names = profile_.unknown_names};
}

}  // namespace

Result<Program> compile(const oci::Seccomp& spec) {
  const Profile profile = FLUYT_TRY(parse_profile(spec));
  return Compiler(profile).run();
}

}  // namespace fluyt::runtime::seccomp
