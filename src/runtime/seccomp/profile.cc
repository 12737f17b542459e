#include "runtime/seccomp/profile.h"

#include <linux/seccomp.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.h"
#include "runtime/seccomp/compile.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace fluyt::runtime::seccomp {

namespace {

template <class Value>
struct Word {
  std::string_view name;
  Value value;
};

constexpr Word<Action> kActions[] = {
    {"SCMP_ACT_KILL", SECCOMP_RET_KILL_THREAD},
    {"SCMP_ACT_KILL_PROCESS", SECCOMP_RET_KILL_PROCESS},
    {"SCMP_ACT_KILL_THREAD", SECCOMP_RET_KILL_THREAD},
    {"SCMP_ACT_TRAP", SECCOMP_RET_TRAP},
    {"SCMP_ACT_ERRNO", SECCOMP_RET_ERRNO},
    {"SCMP_ACT_TRACE", SECCOMP_RET_TRACE},
    {"SCMP_ACT_ALLOW", SECCOMP_RET_ALLOW},
    {"SCMP_ACT_LOG", SECCOMP_RET_LOG},
    {"SCMP_ACT_NOTIFY", SECCOMP_RET_USER_NOTIF},
};

constexpr Word<Operator> kOperators[] = {
    {"SCMP_CMP_NE", Operator::kNotEqual},           {"SCMP_CMP_LT", Operator::kLess},
    {"SCMP_CMP_LE", Operator::kLessOrEqual},        {"SCMP_CMP_EQ", Operator::kEqual},
    {"SCMP_CMP_GE", Operator::kGreaterOrEqual},     {"SCMP_CMP_GT", Operator::kGreater},
    {"SCMP_CMP_MASKED_EQ", Operator::kMaskedEqual},
};

// All that the specification names. The kernel this runs on can only ever show the native one and
// its 32-bit companions: rules for the others would never be reached, so none are made.
constexpr std::string_view kArchitectures[] = {
    "SCMP_ARCH_X86",     "SCMP_ARCH_X86_64",   "SCMP_ARCH_X32",         "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS",     "SCMP_ARCH_MIPS64",      "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",   "SCMP_ARCH_PPC64LE",  "SCMP_ARCH_S390",        "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",  "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64",     "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",    "SCMP_ARCH_SH",       "SCMP_ARCH_SHEB",
};

constexpr Word<uint32_t> kFlags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
};

constexpr uint32_t kMaxErrno = 4095;  // the kernel cuts higher ones
constexpr uint32_t kMaxTraceData = 65535;

template <class Value, size_t kCount>
const Value* find(const Word<Value> (&words)[kCount], std::string_view name) {
  for (const Word<Value>& word : words) {
    if (word.name == name) return &word.value;
  }
  return nullptr;
}

template <class Value, size_t kCount>
std::vector<std::string> names_of(const Word<Value> (&words)[kCount]) {
  std::vector<std::string> out;
  for (const Word<Value>& word : words) out.emplace_back(word.name);
  return out;
}

Error invalid(std::string_view field, std::string_view value, std::string_view expectation) {
  return Error(Code::kInvalidArgument,
               cat("linux.seccomp.", field, ": ", value, ": ", expectation));
}

Result<Action> action_of(const std::string& name, const std::optional<uint32_t>& errno_ret,
                         std::string_view field, std::string_view errno_field) {
  const Action* action = find(kActions, name);
  if (action == nullptr) {
    return invalid(field, quote(name), cat("expected one of ", join(known_actions(), ", ")));
  }
  if (*action != SECCOMP_RET_ERRNO && *action != SECCOMP_RET_TRACE) {
    // The specification: an action that takes no errno must not be given one.
    if (errno_ret)
      return invalid(errno_field, std::to_string(*errno_ret), cat(name, " takes no errno"));
    return *action;
  }
  const uint32_t limit = *action == SECCOMP_RET_ERRNO ? kMaxErrno : kMaxTraceData;
  if (errno_ret.value_or(EPERM) > limit) {
    return invalid(errno_field, std::to_string(*errno_ret), cat("expected 0 to ", limit));
  }
  return *action | errno_ret.value_or(EPERM);
}

Result<Condition> condition_of(const oci::SeccompArg& arg, const std::string& field) {
  if (arg.index > 5) return invalid(field + ".index", std::to_string(arg.index), "expected 0 to 5");
  const Operator* op = find(kOperators, arg.op);
  if (op == nullptr) {
    return invalid(field + ".op", quote(arg.op),
                   cat("expected one of ", join(known_operators(), ", ")));
  }
  return Condition{.index = static_cast<uint8_t>(arg.index),
                   .op = *op,
                   .value = arg.value,
                   .value_two = arg.value_two};
}

Result<> add_architectures(const oci::Seccomp& spec, Profile& out) {
  for (size_t i = 0; i < spec.architectures.size(); ++i) {
    const std::string& name = spec.architectures[i];
    if (std::ranges::find(kArchitectures, name) == std::end(kArchitectures)) {
      return invalid(cat("architectures[", i, "]"), quote(name),
                     "expected a name such as SCMP_ARCH_X86_64");
    }
    out.x86 |= name == "SCMP_ARCH_X86";
    out.x32 |= name == "SCMP_ARCH_X32";
    out.arm |= name == "SCMP_ARCH_ARM";
  }
  return {};
}

Result<> add_flags(const oci::Seccomp& spec, Profile& out) {
  if (!spec.flags) {
    // As runc has it: a filter alone shall not slow the program down by half.
    out.flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    return {};
  }
  for (size_t i = 0; i < spec.flags->size(); ++i) {
    const std::string& name = (*spec.flags)[i];
    const uint32_t* flag = find(kFlags, name);
    if (flag == nullptr) {
      return invalid(cat("flags[", i, "]"), quote(name),
                     cat("expected one of ", join(known_flags(), ", ")));
    }
    out.flags |= *flag;
  }
  return {};
}

bool names_a_value(const Condition& condition) {
  return condition.op == Operator::kEqual || condition.op == Operator::kMaskedEqual;
}

// One argument compared with several values can never equal all of them: profiles mean any, and so
// do runc and crun. Other comparisons of one argument, such as two ends of a range, must all hold.
Result<std::vector<std::vector<Condition>>> alternatives(const std::vector<Condition>& conditions,
                                                         const std::string& field) {
  constexpr size_t kMost = 1024;
  std::vector<std::vector<Condition>> out(1);
  std::array<std::vector<Condition>, 6> by_argument;
  for (const Condition& condition : conditions) by_argument[condition.index].push_back(condition);
  for (const std::vector<Condition>& same : by_argument) {
    if (same.size() < 2 || !std::ranges::all_of(same, names_a_value)) {
      for (auto& one : out) one.insert(one.end(), same.begin(), same.end());
      continue;
    }
    if (same.size() > kMost / out.size()) {
      return Error(
          Code::kResourceExhausted,
          cat("linux.seccomp.", field, ".args: expected at most ", kMost, " combinations"));
    }
    std::vector<std::vector<Condition>> more;
    for (const auto& one : out) {
      for (const Condition& value : same) {
        more.push_back(one);
        more.back().push_back(value);
      }
    }
    out = std::move(more);
  }
  return out;
}

void add_calls(const std::vector<std::string>& names, std::vector<const Syscall*>& calls,
               Profile& out) {
  calls.reserve(names.size());
  for (const std::string& name : names) {
    const Syscall* call = find_syscall(name);
    if (call == nullptr) {
      out.unknown_names.push_back(name);
      continue;
    }
    calls.push_back(call);
    for (size_t i = 0; i < kArchs; ++i) out.last[i] = std::max(out.last[i], call->numbers[i]);
  }
}

Result<> add_rules(const oci::Seccomp& spec, Profile& out) {
  for (size_t i = 0; i < spec.syscalls.size(); ++i) {
    const oci::SeccompSyscalls& entry = spec.syscalls[i];
    const std::string field = cat("syscalls[", i, "]");
    Rule rule;
    rule.action =
        FLUYT_TRY(action_of(entry.action, entry.errno_ret, field + ".action", field + ".errnoRet"));
    for (size_t j = 0; j < entry.args.size(); ++j) {
      rule.conditions.push_back(
          FLUYT_TRY(condition_of(entry.args[j], cat(field, ".args[", j, "]"))));
    }
    if (rule.action == SECCOMP_RET_USER_NOTIF) {
      // Whoever loads the filter must be able to hand its listener over afterwards.
      if (std::ranges::find(entry.names, "write") != entry.names.end()) {
        return invalid(field + ".names", quote("write"),
                       "SCMP_ACT_NOTIFY cannot be used for the write syscall: it would stop the "
                       "runtime itself");
      }
      out.notifies = true;
    }
    add_calls(entry.names, rule.calls, out);
    // One without conditions that says what the default says changes nothing. One with conditions
    // does: it comes before later ones that would permit.
    if (rule.action == out.default_action && rule.conditions.empty()) continue;
    for (std::vector<Condition>& conditions : FLUYT_TRY(alternatives(rule.conditions, field))) {
      out.rules.push_back(
          {.action = rule.action, .conditions = std::move(conditions), .calls = rule.calls});
    }
  }
  return {};
}

}  // namespace

std::vector<std::string> known_actions() { return names_of(kActions); }
std::vector<std::string> known_operators() { return names_of(kOperators); }
std::vector<std::string> known_flags() { return names_of(kFlags); }
std::vector<std::string> known_architectures() {
  return {std::begin(kArchitectures), std::end(kArchitectures)};
}

Result<Profile> parse_profile(const oci::Seccomp& spec) {
  Profile out;
  out.default_action = FLUYT_TRY(
      action_of(spec.default_action, spec.default_errno_ret, "defaultAction", "defaultErrnoRet"));
  if (out.default_action == SECCOMP_RET_USER_NOTIF) {
    return invalid("defaultAction", quote(spec.default_action),
                   "only single calls can be notified");
  }
  const Action plain = out.default_action & SECCOMP_RET_ACTION_FULL;
  out.answers_new_calls_with_enosys = plain != SECCOMP_RET_ALLOW && plain != SECCOMP_RET_LOG &&
                                      plain != SECCOMP_RET_TRACE &&
                                      out.default_action != (SECCOMP_RET_ERRNO | ENOSYS);
  FLUYT_TRY(add_architectures(spec, out));
  FLUYT_TRY(add_flags(spec, out));
  FLUYT_TRY(add_rules(spec, out));
  if (out.notifies && spec.listener_path.empty()) {
    return invalid("listenerPath", "\"\"",
                   "SCMP_ACT_NOTIFY needs a socket to send the listener to");
  }
  // It says how notified calls wait, so without any it means nothing and the kernel would refuse
  // it.
  if (!out.notifies) out.flags &= ~static_cast<uint32_t>(SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
  return out;
}

}  // namespace fluyt::runtime::seccomp
