#include "base/strings.h"
#include "settings.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

constexpr const char* kLibexec = "/usr/libexec/fluyt";

Result<> find(const std::string& own_dir, const std::string& name, std::string& path) {
  if (!path.empty()) {
    if (!sys::exists(path)) {
      return Error(Code::kNotFound, cat("programs: ", path, " is not there"));
    }
    return {};
  }
  for (const std::string& dir : {own_dir, std::string(kLibexec)}) {
    path = dir + "/" + name;
    if (sys::exists(path)) return {};
  }
  return Error(Code::kNotFound, cat(name, " is neither in ", own_dir, " nor in ", kLibexec));
}

}  // namespace

Result<> find_programs(Settings& settings) {
  const std::string own = FLUYT_TRY(sys::read_link(sys::kCwd, "/proc/self/exe"));
  const std::string dir = own.substr(0, own.rfind('/'));
  FLUYT_TRY(find(dir, "fluyt-monitor", settings.monitor_program));
  FLUYT_TRY(find(dir, "fluyt-pod-init", settings.pod_init_program));
  return find(dir, "fluyt-unpack", settings.unpack_program);
}

}  // namespace fluyt::daemon
