#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

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

Result<> check_handlers(const Settings& settings) {
  for (const engine::RuntimeHandler& handler : settings.handlers) {
    struct stat info{};
    const std::string field = cat("runtime.handlers.", handler.name, ".path: ", handler.path);
    if (::stat(handler.path.c_str(), &info) != 0) return Error::from_errno(errno, field);
    if (!S_ISREG(info.st_mode) || ::access(handler.path.c_str(), X_OK) != 0) {
      return Error(Code::kInvalidArgument, cat(field, ": expected a program that may be executed"));
    }
  }
  const std::string& chosen = settings.default_handler;
  const bool is_known =
      chosen == engine::kLinkedHandler ||
      std::any_of(settings.handlers.begin(), settings.handlers.end(),
                  [&](const engine::RuntimeHandler& handler) { return handler.name == chosen; });
  if (is_known) return {};
  return Error(Code::kInvalidArgument,
               cat("runtime.default_handler: ", quote(chosen), ": expected \"",
                   engine::kLinkedHandler, "\" or one of runtime.handlers"));
}

}  // namespace

Result<> find_programs(Settings& settings) {
  const std::string own = FLUYT_TRY(sys::read_link(sys::kCwd, "/proc/self/exe"));
  const std::string dir = own.substr(0, own.rfind('/'));
  FLUYT_TRY(find(dir, "fluyt-monitor", settings.monitor_program));
  FLUYT_TRY(find(dir, "fluyt-pod-init", settings.pod_init_program));
  FLUYT_TRY(find(dir, "fluyt-unpack", settings.unpack_program));
  return check_handlers(settings);
}

}  // namespace fluyt::daemon
