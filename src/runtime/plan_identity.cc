#include <linux/mempolicy.h>
#include <sys/personality.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/strings.h"
#include "runtime/plan.h"

namespace fluyt::runtime {

namespace {

using Row = std::pair<std::string_view, uint64_t>;

constexpr std::array<Row, 7> kPolicies = {{{"SCHED_OTHER", 0},
                                           {"SCHED_FIFO", 1},
                                           {"SCHED_RR", 2},
                                           {"SCHED_BATCH", 3},
                                           {"SCHED_ISO", 4},
                                           {"SCHED_IDLE", 5},
                                           {"SCHED_DEADLINE", 6}}};
constexpr std::array<Row, 7> kSchedFlags = {{{"SCHED_FLAG_RESET_ON_FORK", 0x01},
                                             {"SCHED_FLAG_RECLAIM", 0x02},
                                             {"SCHED_FLAG_DL_OVERRUN", 0x04},
                                             {"SCHED_FLAG_KEEP_POLICY", 0x08},
                                             {"SCHED_FLAG_KEEP_PARAMS", 0x10},
                                             {"SCHED_FLAG_UTIL_CLAMP_MIN", 0x20},
                                             {"SCHED_FLAG_UTIL_CLAMP_MAX", 0x40}}};
// ioprio_set(2); newer copies of <linux/ioprio.h> are C alone (a parameter called `class`).
constexpr unsigned kIoClassShift = 13;
constexpr std::array<Row, 3> kIoClasses = {
    {{"IOPRIO_CLASS_RT", 1}, {"IOPRIO_CLASS_BE", 2}, {"IOPRIO_CLASS_IDLE", 3}}};

template <size_t N>
Result<uint64_t> look_up(const std::array<Row, N>& rows, std::string_view name,
                         std::string_view field) {
  std::string expected;
  for (const auto& [known, value] : rows) {
    if (known == name) return value;
    expected += cat(expected.empty() ? "" : ", ", known);
  }
  return Error(Code::kInvalidArgument,
               cat(field, ": ", quote(name), ": expected one of ", expected));
}

Result<std::vector<RlimitPlan>> plan_rlimits(const std::vector<oci::Rlimit>& asked) {
  std::vector<RlimitPlan> out;
  for (size_t i = 0; i < asked.size(); ++i) {
    const auto resource = sys::find_rlimit(asked[i].type);
    const std::string field = cat("process.rlimits[", i, "]");
    if (!resource) {
      return Error(Code::kInvalidArgument,
                   cat(field, ".type: ", quote(asked[i].type), ": unknown limit"));
    }
    for (const RlimitPlan& other : out) {
      if (other.resource == *resource) {
        return Error(Code::kInvalidArgument,
                     cat(field, ".type: ", quote(asked[i].type), ": named twice"));
      }
    }
    if (asked[i].soft > asked[i].hard) {
      return Error(Code::kInvalidArgument,
                   cat(field, ".soft: ", asked[i].soft, ": above hard ", asked[i].hard));
    }
    out.push_back({*resource, asked[i].soft, asked[i].hard, asked[i].type});
  }
  return out;
}

// sched(7): what the kernel would refuse with EINVAL alone.
Result<> check_deadline(const sys::SchedulerAttributes& asked) {
  constexpr uint64_t kLeast = 1024;              // ns: the kernel counts in units of 2^10
  constexpr uint64_t kMost = (1ULL << 63U) - 1;  // ns
  auto wrong = [](std::string_view field, uint64_t value, std::string_view expected) {
    return Error(Code::kInvalidArgument,
                 cat("process.scheduler.", field, ": ", value, ": expected ", expected));
  };
  if (asked.runtime < kLeast) {
    return wrong("runtime", asked.runtime, "1024 ns or more with SCHED_DEADLINE");
  }
  if (asked.deadline < asked.runtime || asked.deadline > kMost) {
    return wrong("deadline", asked.deadline, "at least runtime, and less than 2^63 ns");
  }
  if (asked.period != 0 && (asked.period < asked.deadline || asked.period > kMost)) {
    return wrong("period", asked.period, "0, or at least deadline and less than 2^63 ns");
  }
  return {};
}

Result<> check_scheduler(const oci::Scheduler& asked, const sys::SchedulerAttributes& plan) {
  constexpr uint32_t kFifo = 1;
  constexpr uint32_t kRoundRobin = 2;
  constexpr uint32_t kIso = 4;
  constexpr uint32_t kDeadline = 6;
  if (plan.policy == kIso) {
    return Error(Code::kUnimplemented,
                 "process.scheduler.policy: \"SCHED_ISO\": Linux has no such policy");
  }
  if (plan.nice < -20 || plan.nice > 19) {
    return Error(Code::kInvalidArgument,
                 cat("process.scheduler.nice: ", plan.nice, ": expected -20 to 19"));
  }
  const int priority = asked.priority.value_or(0);
  const bool realtime = plan.policy == kFifo || plan.policy == kRoundRobin;
  if (realtime ? priority < 1 || priority > 99 : priority != 0) {
    return Error(Code::kInvalidArgument,
                 cat("process.scheduler.priority: ", priority, ": expected ",
                     realtime ? "1 to 99 with " : "none with ", asked.policy));
  }
  return plan.policy == kDeadline ? check_deadline(plan) : Result<>();
}

Result<sys::SchedulerAttributes> plan_scheduler(const oci::Scheduler& asked) {
  sys::SchedulerAttributes out;
  out.policy = static_cast<uint32_t>(
      FLUYT_TRY(look_up(kPolicies, asked.policy, "process.scheduler.policy")));
  for (const std::string& flag : asked.flags) {
    out.flags |= FLUYT_TRY(look_up(kSchedFlags, flag, "process.scheduler.flags"));
  }
  out.nice = asked.nice.value_or(0);
  out.priority = static_cast<uint32_t>(asked.priority.value_or(0));
  out.runtime = asked.runtime.value_or(0);
  out.deadline = asked.deadline.value_or(0);
  out.period = asked.period.value_or(0);
  FLUYT_TRY(check_scheduler(asked, out));
  return out;
}

Result<int> plan_io_priority(const oci::IoPriority& asked) {
  const uint64_t io_class =
      FLUYT_TRY(look_up(kIoClasses, asked.io_class, "process.ioPriority.class"));
  if (asked.priority < 0 || asked.priority > 7) {
    return Error(Code::kInvalidArgument,
                 cat("process.ioPriority.priority: ", asked.priority, ": expected 0 to 7"));
  }
  return static_cast<int>(io_class << kIoClassShift) | asked.priority;
}

// 4294967295 is "leave as it is" to setresuid(2): it must never reach it.
Result<> check_id(uint32_t id, std::string_view field) {
  if (id == UINT32_MAX) return Error(Code::kInvalidArgument, cat(field, ": ", id, ": not an id"));
  return {};
}

}  // namespace

Result<std::vector<unsigned>> parse_number_list(std::string_view text, std::string_view field) {
  constexpr unsigned kMost = 8192;
  std::vector<unsigned> out;
  if (trim(text).empty()) return out;
  for (const std::string_view piece : split(trim(text), ',')) {
    const size_t dash = piece.find('-');
    const auto first = parse_number<unsigned>(piece.substr(0, dash));
    const auto last =
        dash == std::string_view::npos ? first : parse_number<unsigned>(piece.substr(dash + 1));
    if (!first || !last || *first > *last || *last >= kMost) {
      return Error(Code::kInvalidArgument,
                   cat(field, ": ", quote(text), ": expected a list such as 0-3,7"));
    }
    for (unsigned n = *first; n <= *last; ++n) out.push_back(n);
  }
  return out;
}

Result<IdentityPlan> plan_identity(const oci::Process& process, const HostFacts& host,
                                   std::vector<std::string>& warnings) {
  IdentityPlan out;
  FLUYT_TRY(check_id(process.user.uid, "process.user.uid"));
  FLUYT_TRY(check_id(process.user.gid, "process.user.gid"));
  out.uid = process.user.uid;
  out.gid = process.user.gid;
  for (const uint32_t gid : process.user.additional_gids) {
    FLUYT_TRY(check_id(gid, "process.user.additionalGids"));
    out.groups.push_back(gid);
  }
  out.keeps_groups = host.groups_denied;
  if (out.keeps_groups && !out.groups.empty()) {
    return Error(
        Code::kPermissionDenied,
        "process.user.additionalGids: expected none: a user namespace that was made without "
        "privileges may not change groups");
  }
  if (process.user.umask) {
    if (*process.user.umask > 0777) {
      return Error(Code::kInvalidArgument,
                   cat("process.user.umask: ", *process.user.umask, ": above 0777"));
    }
    out.umask = *process.user.umask;
  }
  out.rlimits = FLUYT_TRY(plan_rlimits(process.rlimits));
  // No object at all is no capability at all: nobody gets ours by leaving it out.
  out.last_capability = host.last_capability;
  if (process.capabilities) {
    caps::Resolved resolved =
        caps::resolve(*process.capabilities, host.holding, host.last_capability);
    out.capabilities = resolved.sets;
    warnings.insert(warnings.end(), resolved.warnings.begin(), resolved.warnings.end());
  }
  out.no_new_privileges = process.no_new_privileges;
  if (process.oom_score_adj) {
    if (*process.oom_score_adj < -1000 || *process.oom_score_adj > 1000) {
      return Error(Code::kInvalidArgument, cat("process.oomScoreAdj: ", *process.oom_score_adj,
                                               ": expected -1000 to 1000"));
    }
    out.oom_score_adj = *process.oom_score_adj;
  }
  if (process.scheduler) out.scheduler = FLUYT_TRY(plan_scheduler(*process.scheduler));
  if (process.io_priority) out.io_priority = FLUYT_TRY(plan_io_priority(*process.io_priority));
  if (!process.apparmor_profile.empty() && process.apparmor_profile != "unconfined" &&
      !host.apparmor) {
    return Error(Code::kUnimplemented,
                 cat("process.apparmorProfile: ", quote(process.apparmor_profile),
                     ": this host has no AppArmor"));
  }
  if (!process.selinux_label.empty() && !host.selinux) {
    return Error(Code::kUnimplemented, cat("process.selinuxLabel: ", quote(process.selinux_label),
                                           ": this host has no SELinux"));
  }
  out.apparmor_profile = host.apparmor ? process.apparmor_profile : "";
  out.selinux_label = process.selinux_label;
  return out;
}

Result<> plan_process(const oci::Process& process, Plan& plan) {
  if (process.args.empty() || process.args[0].empty()) {
    return Error(Code::kInvalidArgument, "process.args: expected at least the program");
  }
  for (const std::string& variable : process.env) {
    if (variable.find('=') == std::string::npos || variable.starts_with('=')) {
      return Error(Code::kInvalidArgument,
                   cat("process.env: ", quote(variable), ": expected NAME=value"));
    }
  }
  for (const auto* list : {&process.args, &process.env}) {
    for (const std::string& text : *list) {
      if (text.find('\0') != std::string::npos) {
        return Error(Code::kInvalidArgument, cat("process: ", quote(text), ": contains a NUL"));
      }
    }
  }
  if (!process.cwd.starts_with('/') || process.cwd.find('\0') != std::string::npos) {
    return Error(Code::kInvalidArgument,
                 cat("process.cwd: ", quote(process.cwd), ": expected an absolute path"));
  }
  plan.args = process.args;
  plan.env = process.env;
  plan.cwd = process.cwd;
  plan.terminal = process.terminal;
  if (process.terminal && process.console_size) {
    plan.console_height = static_cast<uint16_t>(std::min(process.console_size->height, 65535U));
    plan.console_width = static_cast<uint16_t>(std::min(process.console_size->width, 65535U));
  }
  return {};
}

}  // namespace fluyt::runtime
