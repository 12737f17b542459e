#include "cmd/fluyt/run_logs.h"

#include "base/strings.h"
#include "sys/file.h"

namespace fluyt::cli {

std::string run_log_folder(const control::InfoResponse& info, const std::string& uid) {
  return cat(info.logs(), "/", uid);
}

Result<> remove_run_log(const control::InfoResponse& info, const std::string& log_path) {
  const std::string root = info.logs() + "/";
  if (info.logs().empty() || !log_path.starts_with(root)) return {};
  const std::string below = log_path.substr(root.size());
  const std::string folder = below.substr(0, below.find('/'));
  // Exactly <logs>/<folder>/<file>: what we made, and no way up.
  if (folder.empty() || folder == "." || folder == ".." || split(below, '/').size() != 2) return {};
  auto logs = sys::open(info.logs(), O_PATH | O_DIRECTORY);
  if (!logs.ok() && logs.error().code() == Code::kNotFound) return {};
  if (!logs.ok()) return std::move(logs).error();
  return sys::remove_tree(*logs, folder);
}

}  // namespace fluyt::cli
