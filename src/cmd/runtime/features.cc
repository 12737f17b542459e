#include <unistd.h>

#include <nlohmann/json.hpp>

#include "cmd/runtime/commands.h"
#include "oci/runtime_spec.h"
#include "runtime/caps/caps.h"
#include "runtime/mount_options.h"
#include "runtime/seccomp/compile.h"
#include "sys/file.h"

namespace fluyt::commands {

Result<int> features(Invocation& call) {
  const auto words = FLUYT_TRY(read_words(call, {}, "features", 0, 0));
  if (!words) return 0;
  namespace seccomp = runtime::seccomp;
  nlohmann::ordered_json out;
  out["ociVersionMin"] = "1.0.0";
  out["ociVersionMax"] = oci::Spec().oci_version;
  out["hooks"] = {"prestart",       "createRuntime", "createContainer",
                  "startContainer", "poststart",     "poststop"};
  out["mountOptions"] = runtime::known_mount_options();
  auto& on_linux = out["linux"];
  on_linux["namespaces"] = {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"};
  on_linux["capabilities"] = runtime::caps::known_names(runtime::caps::kLastNamed);
  on_linux["cgroup"] = {
      {"v1", true}, {"v2", true}, {"systemd", true}, {"systemdUser", false}, {"rdma", true}};
  on_linux["seccomp"] = {{"enabled", true},
                         {"actions", seccomp::known_actions()},
                         {"operators", seccomp::known_operators()},
                         {"archs", seccomp::known_architectures()},
                         {"knownFlags", seccomp::known_flags()},
                         {"supportedFlags", seccomp::supported_flags()}};
  on_linux["apparmor"] = {{"enabled", true}};
  on_linux["selinux"] = {{"enabled", true}};
  on_linux["intelRdt"] = {{"enabled", true}, {"schemata", true}, {"monitoring", true}};
  on_linux["mountExtensions"] = {{"idmap", {{"enabled", true}}}};
  on_linux["netDevices"] = {{"enabled", true}};
  on_linux["memoryPolicy"] = {
      {"modes",
       {"MPOL_DEFAULT", "MPOL_PREFERRED", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_LOCAL",
        "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"}},
      {"flags", {"MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"}}};
  // The name that callers of every runtime ask for.
  out["annotations"] = {{"dev.fluyt.version", FLUYT_VERSION},
                        {"org.opencontainers.runc.checkpoint.enabled", "true"}};
  // The systemd driver sets what they name on the container's unit: of an image's own they are to
  // be taken out before.
  out["potentiallyUnsafeConfigAnnotations"] = {"org.systemd.property."};
  call.launcher.describe(out);
  FLUYT_TRY(sys::write_all(sys::FdRef(STDOUT_FILENO), out.dump(2) + "\n"));
  return 0;
}

}  // namespace fluyt::commands
