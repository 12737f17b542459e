#include <algorithm>
#include <array>

#include "base/strings.h"
#include "runtime/plan.h"

namespace fluyt::runtime {

namespace {

constexpr std::array<std::string_view, 8> kIpcKeys = {
    "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
    "kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced"};

// Which namespace a setting belongs to; 0: to the whole host.
uint64_t owner_of(std::string_view path) {
  if (std::find(kIpcKeys.begin(), kIpcKeys.end(), path) != kIpcKeys.end()) return CLONE_NEWIPC;
  if (path.starts_with("fs/mqueue/")) return CLONE_NEWIPC;
  if (path.starts_with("net/")) return CLONE_NEWNET;
  if (path == "kernel/domainname" || path == "kernel/hostname") return CLONE_NEWUTS;
  if (path.starts_with("user/")) return CLONE_NEWUSER;
  return 0;
}

// sysctl(8)'s rule: the first separator says which of '.' and '/' separates; the other is then part
// of a name ("net/ipv4/conf/eth0.1/forwarding").
std::string path_of(std::string_view key) {
  std::string path(key);
  const size_t first = key.find_first_of("./");
  if (first != std::string_view::npos && key[first] == '/') return path;
  for (char& c : path) {
    if (c == '.') {
      c = '/';
    } else if (c == '/') {
      c = '.';
    }
  }
  return path;
}

bool is_plain(std::string_view path) {
  for (const std::string_view piece : split(path, '/')) {
    if (piece.empty() || piece == "." || piece == "..") return false;
  }
  return !has_control_characters(path);
}

// Two fields that say different things of one name.
Result<> check_names(const oci::Spec& spec, const SysctlPlan& plan) {
  if (plan.path == "kernel/hostname") {
    return Error(Code::kInvalidArgument,
                 cat("linux.sysctl[", quote(plan.key), "]: expected the field hostname instead"));
  }
  if (plan.path != "kernel/domainname" || spec.domainname.empty() ||
      spec.domainname == plan.value) {
    return {};
  }
  return Error(Code::kInvalidArgument,
               cat("linux.sysctl[", quote(plan.key), "]: ", quote(plan.value), ": expected ",
                   quote(spec.domainname), ", as domainname says"));
}

}  // namespace

Result<std::vector<SysctlPlan>> plan_sysctls(const oci::Spec& spec,
                                             const NamespacePlan& namespaces) {
  if (!spec.linux_) return std::vector<SysctlPlan>();
  const oci::Linux& config = *spec.linux_;
  std::vector<SysctlPlan> plans;
  for (const auto& [key, value] : config.sysctl) {
    SysctlPlan plan{path_of(key), value, key};
    const uint64_t owner = is_plain(plan.path) ? owner_of(plan.path) : 0;
    plan.owner = owner;
    if (owner == 0) {
      return Error(Code::kInvalidArgument,
                   cat("linux.sysctl[", quote(key),
                       "]: not a setting of a namespace: it would change the host"));
    }
    if (!namespaces.has(owner)) {
      return Error(
          Code::kInvalidArgument,
          cat("linux.sysctl[", quote(key), "]: the container has no namespace of its own for it"));
    }
    if (has_control_characters(value)) {
      // A tab separates fields of some settings; everything else has no business here.
      const bool only_tabs = std::all_of(value.begin(), value.end(), [](char c) {
        return c == '\t' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
      });
      if (!only_tabs) {
        return Error(Code::kInvalidArgument, cat("linux.sysctl[", quote(key), "]: ", quote(value)));
      }
    }
    FLUYT_TRY(check_names(spec, plan));
    plans.push_back(std::move(plan));
  }
  return plans;
}

}  // namespace fluyt::runtime
