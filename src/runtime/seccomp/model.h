#pragma once

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "runtime/seccomp/profile.h"
#include "runtime/seccomp/table.h"

/// What a profile means for one call, written down once more without any thought of speed: what the
/// compiler is held against. For tests and fuzzers, of x86_64 alone.
namespace fluyt::runtime::seccomp::model {

inline constexpr uint32_t kNoCall = UINT32_MAX;

inline bool holds(const Condition& c, uint64_t arg, bool narrow) {
  uint64_t value = c.value;
  uint64_t two = c.value_two;
  if (narrow) {
    arg &= UINT32_MAX;
    value &= UINT32_MAX;
    two &= UINT32_MAX;
  }
  switch (c.op) {
    case Operator::kNotEqual:
      return arg != value;
    case Operator::kLess:
      return arg < value;
    case Operator::kLessOrEqual:
      return arg <= value;
    case Operator::kEqual:
      return arg == value;
    case Operator::kGreaterOrEqual:
      return arg >= value;
    case Operator::kGreater:
      return arg > value;
    case Operator::kMaskedEqual:
      return (arg & value) == (two & value);
  }
  return false;
}

inline bool is_x32(const seccomp_data& data) {
  return data.arch == AUDIT_ARCH_X86_64 && static_cast<uint32_t>(data.nr) >= kX32Bit;
}

inline Arch arch_of(const seccomp_data& data) {
  if (data.arch == AUDIT_ARCH_I386) return Arch::kX86;
  return is_x32(data) ? Arch::kX32 : Arch::kX86_64;
}

/// Of an architecture that the profile does not list.
inline bool is_foreign(const Profile& profile, const seccomp_data& data) {
  if (data.arch == AUDIT_ARCH_I386) return !profile.x86;
  if (data.arch != AUDIT_ARCH_X86_64) return true;
  return is_x32(data) && static_cast<uint32_t>(data.nr) != kNoCall && !profile.x32;
}

inline bool is_new(const Profile& profile, const seccomp_data& data) {
  const auto n = static_cast<uint32_t>(data.nr);
  const int32_t last = profile.last[static_cast<size_t>(arch_of(data))];
  return profile.answers_new_calls_with_enosys && !is_foreign(profile, data) && n != kNoCall &&
         last >= 0 && static_cast<int64_t>(n) > last;
}

/// By the kernel's order: 0 is the most severe answer.
inline int severity(Action action) {
  constexpr uint32_t kOrder[] = {
      SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
      SECCOMP_RET_USER_NOTIF,   SECCOMP_RET_TRACE,       SECCOMP_RET_LOG,  SECCOMP_RET_ALLOW};
  const auto* found = std::ranges::find(kOrder, action & SECCOMP_RET_ACTION_FULL);
  return static_cast<int>(found - std::begin(kOrder));
}

/// Whether a rule names the call by its number, or behind socketcall(2) or ipc(2), where its
/// conditions cannot be looked at: there a rule with conditions can only make an answer worse.
struct Named {
  bool by_number = false;
  bool behind = false;
};
inline Named names(const Profile& profile, const Rule& rule, const seccomp_data& data) {
  const Arch arch = arch_of(data);
  Named out;
  for (const Syscall* call : rule.calls) {
    out.by_number |= call->number(arch) == data.nr;
    const Multiplexed* through = arch == Arch::kX86 ? find_multiplexed(call->name) : nullptr;
    if (through == nullptr || through->through != data.nr) continue;
    if (!rule.conditions.empty() && severity(rule.action) > severity(profile.default_action))
      continue;
    const uint64_t mask = through->through == kX86Ipc ? 0xFFFF : UINT32_MAX;
    out.behind |= (data.args[0] & mask) == through->first_argument;
  }
  return out;
}

inline uint32_t meaning(const Profile& profile, const seccomp_data& data) {
  if (is_foreign(profile, data)) return SECCOMP_RET_KILL_THREAD;
  if (is_new(profile, data)) return SECCOMP_RET_ERRNO | ENOSYS;
  if (static_cast<uint32_t>(data.nr) == kNoCall) return profile.default_action;
  for (const Rule& rule : profile.rules) {
    if (rule.conditions.empty() && names(profile, rule, data).by_number) return rule.action;
  }
  const bool narrow = arch_of(data) != Arch::kX86_64;
  for (const Rule& rule : profile.rules) {
    const Named named = names(profile, rule, data);
    const bool all_hold = std::ranges::all_of(
        rule.conditions, [&](const Condition& c) { return holds(c, data.args[c.index], narrow); });
    if (named.behind || (named.by_number && all_hold)) return rule.action;
  }
  return profile.default_action;
}

}  // namespace fluyt::runtime::seccomp::model
