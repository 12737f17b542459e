#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.h"
#include "host/probe.h"
#include "oci/runtime_spec.h"
#include "runtime/seccomp/compile.h"
#include "sys/file.h"
#include "sys/identity.h"

namespace fluyt::host {

namespace {

namespace seccomp = runtime::seccomp;

// A filter as a pod's profile becomes one, and a call that it must refuse.
Result<std::string> filter() {
  oci::Seccomp profile;
  profile.default_action = "SCMP_ACT_ALLOW";
  profile.syscalls = {
      {.names = {"getpriority"}, .action = "SCMP_ACT_ERRNO", .errno_ret = EXDEV, .args = {}}};
  const seccomp::Program program = FLUYT_TRY(seccomp::compile(profile));
  FLUYT_TRY(sys::set_no_new_privileges());
  FLUYT_TRY(seccomp::load(program));
  if (::syscall(SYS_getpriority, 0, 0) != -1 || errno != EXDEV)
    return Error(Code::kInternal, "the filter was taken and does not filter");
  return std::string("filters hold");
}

Result<std::string> notifying_filter() {
  oci::Seccomp profile;
  profile.default_action = "SCMP_ACT_ALLOW";
  profile.listener_path = "/none";  // the listener stays here
  profile.syscalls = {
      {.names = {"getpriority"}, .action = "SCMP_ACT_NOTIFY", .errno_ret = {}, .args = {}}};
  const seccomp::Program program = FLUYT_TRY(seccomp::compile(profile));
  FLUYT_TRY(sys::set_no_new_privileges());
  const sys::Fd listener = FLUYT_TRY(seccomp::load(program));
  if (!listener.valid()) return Error(Code::kInternal, "the filter has no listener");
  return std::string("a filter with a listener");
}

Result<std::string> apparmor() {
  auto text = sys::read_file("/sys/module/apparmor/parameters/enabled", 16);
  if (!text.ok()) return Error(Code::kNotFound, "not in this kernel");
  if (!text->starts_with('Y'))
    return Error(Code::kFailedPrecondition, "in the kernel, not enabled");
  if (!sys::exists("/sys/kernel/security/apparmor/profiles"))
    return Error(Code::kUnavailable, "enabled, and securityfs is not mounted");
  const auto loaded = sys::read_file("/sys/kernel/security/apparmor/profiles", 16UL << 20U);
  const bool has_default =
      loaded.ok() && cat("\n", *loaded).find("\nfluyt-default (") != std::string::npos;
  return std::string(has_default
                         ? "enabled"
                         : "enabled; no profile fluyt-default is loaded: RuntimeDefault is none");
}

Result<std::string> selinux() {
  const auto text = sys::read_file("/sys/fs/selinux/enforce", 16);
  if (!text.ok()) return Error(Code::kNotFound, "not enabled");
  return std::string(text->starts_with('1') ? "enforcing" : "permissive");
}

}  // namespace

void examine_security(Findings findings) {
  findings.try_out({.name = "seccomp filters",
                    .need = Need::kPods,
                    .loses = "pods with a seccomp profile, RuntimeDefault too, are refused",
                    .remedy = "a kernel with CONFIG_SECCOMP_FILTER"},
                   filter);
  findings.try_out({.name = "seccomp notification",
                    .loses = "no SCMP_ACT_NOTIFY in profiles, no rung",
                    .remedy = "no other program that holds a listener on us, and Linux 5.15"},
                   notifying_filter);
  const auto armor = apparmor();
  std::string remedy = "boot with apparmor=1 security=apparmor, if you want it";
  if (!armor.ok() && armor.error().code() == Code::kNotFound)
    remedy = "a kernel with CONFIG_SECURITY_APPARMOR, if you want it";
  if (!armor.ok() && armor.error().code() == Code::kUnavailable)
    remedy = "mount -t securityfs securityfs /sys/kernel/security";
  findings.add({.name = "AppArmor",
                .loses = "pods with an AppArmor profile are refused",
                .remedy = std::move(remedy)},
               armor);
  findings.add({.name = "SELinux",
                .loses = "no SELinux labels: seLinuxOptions of pods are without effect",
                .remedy = "boot with selinux=1 security=selinux, if you want it"},
               selinux());
}

}  // namespace fluyt::host
