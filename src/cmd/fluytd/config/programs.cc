#include "cmd/fluytd/config/programs.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::daemon {
namespace {

constexpr const char* kLibexec = "/usr/libexec/fluyt";

Result<> find(const std::string& own_dir, const std::string& key, const std::string& name,
              std::string& path) {
  if (!path.empty()) {
    if (sys::exists(path)) return {};
    return Error(Code::kNotFound, cat("programs.", key, ": ", path, " is not there"));
  }
  for (const std::string& dir : {own_dir, std::string(kLibexec)}) {
    path = dir + "/" + name;
    if (sys::exists(path)) return {};
  }
  path.clear();
  return Error(Code::kNotFound,
               cat("programs.", key, ": ", name, " is neither in ", own_dir, " nor in ", kLibexec));
}

Result<> check_handler_program(const engine::RuntimeHandler& handler) {
  struct stat info{};
  const std::string field = cat("runtime.handlers.", handler.name, ".path: ", handler.path);
  if (::stat(handler.path.c_str(), &info) != 0) return Error::from_errno(errno, field);
  if (!S_ISREG(info.st_mode) || ::access(handler.path.c_str(), X_OK) != 0) {
    return Error(Code::kInvalidArgument, cat(field, ": expected a program that may be executed"));
  }
  return {};
}

// The guest kernel's runtime comes with us: where it is, it is a handler, unless somebody has said
// what one of that name is.
void add_guest_handler(const std::string& own_dir, Settings& settings) {
  for (const engine::RuntimeHandler& handler : settings.handlers) {
    if (handler.name == engine::kGuestHandler) return;
  }
  engine::RuntimeHandler handler;
  handler.name = engine::kGuestHandler;
  if (find(own_dir, "guest", "rung", handler.path).ok())
    settings.handlers.push_back(std::move(handler));
}

Result<> check_default_handler(const Settings& settings) {
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

std::vector<Error> find_programs(Settings& settings) {
  std::vector<Error> wrong;
  const auto note = [&wrong](const Result<>& result) {
    if (!result.ok()) wrong.push_back(result.error());
  };
  const auto own = sys::read_link(sys::kCwd, "/proc/self/exe");
  if (!own.ok()) return {own.error()};
  const std::string dir = own->substr(0, own->rfind('/'));
  note(find(dir, "monitor", "fluyt-monitor", settings.monitor_program));
  note(find(dir, "pod_init", "fluyt-pod-init", settings.pod_init_program));
  note(find(dir, "unpack", "fluyt-unpack", settings.unpack_program));
  add_guest_handler(dir, settings);
  for (const engine::RuntimeHandler& handler : settings.handlers) {
    note(check_handler_program(handler));
  }
  note(check_default_handler(settings));
  return wrong;
}

}  // namespace fluyt::daemon
