#include "oci/runtime_spec_internal.h"

namespace fluyt::oci::internal {
namespace {

using json::Node;
using json::Object;
using json::Ordered;

constexpr std::string_view kActions[] = {
    "SCMP_ACT_KILL",  "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",  "SCMP_ACT_ERRNO",        "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW", "SCMP_ACT_LOG",          "SCMP_ACT_NOTIFY"};
constexpr std::string_view kOperators[] = {"SCMP_CMP_NE",       "SCMP_CMP_LT", "SCMP_CMP_LE",
                                           "SCMP_CMP_EQ",       "SCMP_CMP_GE", "SCMP_CMP_GT",
                                           "SCMP_CMP_MASKED_EQ"};
constexpr std::string_view kArchitectures[] = {
    "SCMP_ARCH_X86",     "SCMP_ARCH_X86_64",   "SCMP_ARCH_X32",         "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS",     "SCMP_ARCH_MIPS64",      "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",   "SCMP_ARCH_PPC64LE",  "SCMP_ARCH_S390",        "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",  "SCMP_ARCH_PARISC64", "SCMP_ARCH_RISCV64",     "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",    "SCMP_ARCH_SH",       "SCMP_ARCH_SHEB"};
constexpr std::string_view kFlags[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                                       "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                       "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};

constexpr uint32_t kMaxArgIndex = 5;
constexpr uint32_t kMaxErrno = 4095;

void read_errno(const Object& object, std::string_view key, std::optional<uint32_t>& out) {
  object.with(key, [&](const Node& at) {
    read(at, out.emplace());
    if (*out > kMaxErrno) {
      at.expected("an errno up to 4095");
    }
  });
}

void read_arg(const Node& node, SeccompArg& out) {
  const Object object(node);
  object.require("index");
  object.with("index", [&](const Node& at) {
    read(at, out.index);
    if (out.index > kMaxArgIndex) {
      at.expected("an argument's index from 0 to 5");
    }
  });
  object.require("value");
  object.field("value", out.value);
  object.field("valueTwo", out.value_two);
  object.require("op");
  object.one_of("op", out.op, kOperators);
}

void read_syscalls(const Node& node, SeccompSyscalls& out) {
  const Object object(node);
  object.require("names");
  object.with("names", [&](const Node& at) {
    read(at, out.names);
    if (out.names.empty()) {
      at.expected("at least one system call");
    }
  });
  object.require("action");
  object.one_of("action", out.action, kActions);
  read_errno(object, "errnoRet", out.errno_ret);
  object.list("args", out.args, read_arg);
}

Ordered write_arg(const SeccompArg& arg) {
  Ordered out = Ordered::object();
  out["index"] = arg.index;
  out["value"] = arg.value;
  if (arg.value_two != 0) {
    out["valueTwo"] = arg.value_two;
  }
  out["op"] = arg.op;
  return out;
}

Ordered write_syscalls(const SeccompSyscalls& rule) {
  Ordered out = Ordered::object();
  out["names"] = rule.names;
  out["action"] = rule.action;
  json::put(out, "errnoRet", rule.errno_ret);
  json::put(out, "args", rule.args, write_arg);
  return out;
}

}  // namespace

void read_seccomp(const Node& node, Seccomp& out) {
  const Object object(node);
  object.require("defaultAction");
  object.one_of("defaultAction", out.default_action, kActions);
  if (out.default_action == "SCMP_ACT_NOTIFY") {
    // The listener itself could not be sent any more.
    object.refuse("defaultAction", "SCMP_ACT_NOTIFY: expected an action that needs no listener");
  }
  read_errno(object, "defaultErrnoRet", out.default_errno_ret);
  object.some_of("architectures", out.architectures, kArchitectures);
  object.with("flags", [&](const Node&) { out.flags.emplace(); });
  if (out.flags) object.some_of("flags", *out.flags, kFlags);
  object.field("listenerPath", out.listener_path);
  object.field("listenerMetadata", out.listener_metadata);
  if (out.listener_path.empty() && !out.listener_metadata.empty()) {
    object.refuse("listenerMetadata", "expected listenerPath beside it");
  }
  object.list("syscalls", out.syscalls, read_syscalls);
}

Ordered write_seccomp(const Seccomp& seccomp) {
  Ordered out = Ordered::object();
  out["defaultAction"] = seccomp.default_action;
  json::put(out, "defaultErrnoRet", seccomp.default_errno_ret);
  json::put(out, "architectures", seccomp.architectures);
  if (seccomp.flags) out["flags"] = *seccomp.flags;
  json::put(out, "listenerPath", seccomp.listener_path);
  json::put(out, "listenerMetadata", seccomp.listener_metadata);
  json::put(out, "syscalls", seccomp.syscalls, write_syscalls);
  return out;
}

}  // namespace fluyt::oci::internal

namespace fluyt::oci {

Result<Seccomp> parse_seccomp(std::string_view text) {
  const json::Json document =
      FLUYT_TRY_CONTEXT(json::parse_text(text, kMaxSpecBytes), "seccomp profile");
  json::Findings findings;
  Seccomp out;
  internal::read_seccomp(json::Node(document, findings), out);
  FLUYT_TRY_CONTEXT(findings.take(), "seccomp profile");
  return out;
}

std::string to_json(const Seccomp& seccomp) { return json::text(internal::write_seccomp(seccomp)); }

}  // namespace fluyt::oci
