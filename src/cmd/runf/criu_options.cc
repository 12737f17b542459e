#include "cmd/runf/criu_options.h"

#include <fcntl.h>

#include <array>

#include "base/strings.h"

namespace fluyt::commands {

namespace {

using runtime::checkpoint::CgroupMode;

constexpr std::array<std::pair<std::string_view, CgroupMode>, 5> kModes = {
    {{"", CgroupMode::kIgnore},
     {"ignore", CgroupMode::kIgnore},
     {"soft", CgroupMode::kSoft},
     {"full", CgroupMode::kFull},
     {"strict", CgroupMode::kStrict}}};

Error wrong(std::string_view option, std::string_view value, std::string_view expected) {
  return Error(Code::kInvalidArgument,
               cat("option --", option, ": ", quote(value), ": expected ", expected));
}

Result<> read_page_server(CriuOptions& o) {
  if (o.page_server.empty()) return {};
  const size_t colon = o.page_server.rfind(':');
  if (colon == std::string::npos || colon == 0)
    return wrong("page-server", o.page_server, "ADDRESS:PORT");
  const auto port = parse_number<uint16_t>(std::string_view(o.page_server).substr(colon + 1));
  if (!port || *port == 0) return wrong("page-server", o.page_server, "ADDRESS:PORT");
  o.settings.page_server_address = o.page_server.substr(0, colon);
  o.settings.page_server_port = *port;
  return {};
}

Result<> read_status_fd(CriuOptions& o) {
  if (o.status_fd < 0) return {};
  const int flags = fcntl(o.status_fd, F_GETFL);
  if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY) {
    return wrong("status-fd", std::to_string(o.status_fd), "a descriptor that is open for writing");
  }
  o.settings.status_fd = o.status_fd;
  return {};
}

}  // namespace

std::vector<Option> criu_options(CriuOptions& o) {
  auto& s = o.settings;
  s.image_path = "checkpoint";
  return {{"image-path", 0, &s.image_path, "the archive's folder (default: ./checkpoint)"},
          {"work-path", 0, &s.work_path, "folder of criu's log (default: the archive's)"},
          {"tcp-established", 0, &s.tcp_established, "with open TCP connections"},
          {"ext-unix-sk", 0, &s.ext_unix_sk, "with unix sockets to the outside"},
          {"shell-job", 0, &s.shell_job, "with a terminal of the outside"},
          {"file-locks", 0, &s.file_locks, "with file locks"},
          {"lazy-pages", 0, &s.lazy_pages, "memory comes when it is needed"},
          {"auto-dedup", 0, &s.auto_dedup, "memory that was read leaves the archive"},
          {"manage-cgroups-mode", 0, &o.cgroups_mode,
           "cgroups in the archive: ignore (default), soft, full or strict"},
          {"empty-ns", 0, &o.empty_namespaces, "network: a new one, without what was in it"}};
}

Result<> read_criu_options(CriuOptions& o) {
  bool known = false;
  for (const auto& [name, mode] : kModes) {
    if (name != o.cgroups_mode) continue;
    known = true;
    o.settings.cgroup_mode = mode;
  }
  if (!known) return wrong("manage-cgroups-mode", o.cgroups_mode, "ignore, soft, full or strict");
  for (const std::string& name : o.empty_namespaces) {
    if (name != "network") return wrong("empty-ns", name, "network");
    o.settings.empty_network = true;
  }
  FLUYT_TRY(read_page_server(o));
  return read_status_fd(o);
}

}  // namespace fluyt::commands
