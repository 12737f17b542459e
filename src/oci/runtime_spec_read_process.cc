#include <algorithm>

#include "oci/process_file.h"
#include "oci/runtime_spec_internal.h"

namespace fluyt::oci::internal {
namespace {

using json::Node;
using json::Object;

constexpr std::string_view kRlimitTypes[] = {
    "RLIMIT_AS",     "RLIMIT_CORE",   "RLIMIT_CPU",        "RLIMIT_DATA",
    "RLIMIT_FSIZE",  "RLIMIT_LOCKS",  "RLIMIT_MEMLOCK",    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",   "RLIMIT_NOFILE", "RLIMIT_NPROC",      "RLIMIT_RSS",
    "RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_STACK"};
constexpr std::string_view kPolicies[] = {"SCHED_OTHER",   "SCHED_FIFO", "SCHED_RR",
                                          "SCHED_BATCH",   "SCHED_ISO",  "SCHED_IDLE",
                                          "SCHED_DEADLINE"};
constexpr std::string_view kSchedulerFlags[] = {
    "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM",     "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",   "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX"};
constexpr std::string_view kIoClasses[] = {"IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE",
                                           "IOPRIO_CLASS_IDLE"};

void read_console_size(const Node& node, ConsoleSize& out) {
  const Object object(node);
  object.field("height", out.height);
  object.field("width", out.width);
}

void read_user(const Node& node, User& out) {
  const Object object(node);
  object.field("uid", out.uid);
  object.field("gid", out.gid);
  object.field("umask", out.umask);
  object.field("additionalGids", out.additional_gids);
}

void read_rlimit(const Node& node, Rlimit& out) {
  const Object object(node);
  object.require("type");
  object.one_of("type", out.type, kRlimitTypes);
  object.require("soft");
  object.require("hard");
  object.field("soft", out.soft);
  object.field("hard", out.hard);
  if (out.soft > out.hard) {
    object.refuse("soft", cat(out.soft, ": expected at most hard, ", out.hard));
  }
}

void read_rlimits(const Node& node, std::vector<Rlimit>& out) {
  read_list(node, out, read_rlimit);
  for (size_t i = 0; i < out.size(); ++i) {
    const auto first = std::find_if(out.begin(), out.end(),
                                    [&](const Rlimit& other) { return other.type == out[i].type; });
    if (static_cast<size_t>(first - out.begin()) != i) {
      node.refuse(cat(out[i].type, " stands twice"));
    }
  }
}

void read_capabilities(const Node& node, Capabilities& out) {
  const Object object(node);
  object.field("bounding", out.bounding);
  object.field("effective", out.effective);
  object.field("inheritable", out.inheritable);
  object.field("permitted", out.permitted);
  object.field("ambient", out.ambient);
}

void read_scheduler(const Node& node, Scheduler& out) {
  const Object object(node);
  object.require("policy");
  object.one_of("policy", out.policy, kPolicies);
  object.field("nice", out.nice);
  object.field("priority", out.priority);
  object.some_of("flags", out.flags, kSchedulerFlags);
  object.field("runtime", out.runtime);
  object.field("deadline", out.deadline);
  object.field("period", out.period);
}

void read_io_priority(const Node& node, IoPriority& out) {
  const Object object(node);
  object.require("class");
  object.one_of("class", out.io_class, kIoClasses);
  object.with("priority", [&](const Node& at) {
    read(at, out.priority);
    if (out.priority < 0 || out.priority > 7) {
      at.expected("a priority from 0 to 7");
    }
  });
}

void read_cpu_affinity(const Node& node, ExecCpuAffinity& out) {
  const Object object(node);
  object.field("initial", out.initial);
  object.field("final", out.final);
}

}  // namespace

void read_absolute(const Node& node, std::string& out) {
  read(node, out);
  if (!out.starts_with('/')) {
    node.expected("an absolute path");
  }
}

void read_env_entry(const Node& node, std::string& out) {
  read(node, out);
  const size_t equals = out.find('=');
  if (equals == std::string::npos || equals == 0) {
    node.expected("NAME=value");
  }
}

void read_process(const Node& node, Process& out) {
  const Object object(node);
  object.field("terminal", out.terminal);
  object.object("consoleSize", out.console_size, read_console_size);
  object.object("user", out.user, read_user);
  object.require("args");
  object.with("args", [&](const Node& at) {
    read(at, out.args);
    if (out.args.empty()) {
      at.expected("at least the program");
    }
  });
  object.list("env", out.env, read_env_entry);
  object.require("cwd");
  object.object("cwd", out.cwd, read_absolute);
  object.object("capabilities", out.capabilities, read_capabilities);
  object.with("rlimits", [&](const Node& at) { read_rlimits(at, out.rlimits); });
  object.field("noNewPrivileges", out.no_new_privileges);
  object.field("apparmorProfile", out.apparmor_profile);
  object.field("selinuxLabel", out.selinux_label);
  object.with("oomScoreAdj", [&](const Node& at) {
    read(at, out.oom_score_adj.emplace());
    if (*out.oom_score_adj < -1000 || *out.oom_score_adj > 1000) {
      at.expected("a score from -1000 to 1000");
    }
  });
  object.object("scheduler", out.scheduler, read_scheduler);
  object.object("ioPriority", out.io_priority, read_io_priority);
  object.object("execCPUAffinity", out.exec_cpu_affinity, read_cpu_affinity);
}

}  // namespace fluyt::oci::internal

namespace fluyt::oci {

namespace {

Result<Process> parse_over(Process out, std::string_view text) {
  const json::Json document = FLUYT_TRY_CONTEXT(json::parse_text(text, kMaxSpecBytes), "process");
  json::Findings findings;
  internal::read_process(json::Node(document, findings), out);
  FLUYT_TRY_CONTEXT(findings.take(), "process");
  return out;
}

}  // namespace

Result<Process> parse_process(std::string_view text) { return parse_over({}, text); }

Result<Process> parse_process_file(std::string_view text, const Process& own) {
  Process process = FLUYT_TRY(parse_over({.no_new_privileges = own.no_new_privileges}, text));
  if (!process.capabilities) process.capabilities = own.capabilities;
  if (process.rlimits.empty()) process.rlimits = own.rlimits;
  if (process.apparmor_profile.empty()) process.apparmor_profile = own.apparmor_profile;
  if (process.selinux_label.empty()) process.selinux_label = own.selinux_label;
  if (!process.oom_score_adj) process.oom_score_adj = own.oom_score_adj;
  if (!process.scheduler) process.scheduler = own.scheduler;
  if (!process.io_priority) process.io_priority = own.io_priority;
  if (!process.exec_cpu_affinity) process.exec_cpu_affinity = own.exec_cpu_affinity;
  return process;
}

}  // namespace fluyt::oci
