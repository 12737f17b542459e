#include "runtime/checkpoint/checkpoint.h"

#include "base/strings.h"
#include "cmd/runf/criu_options.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/destroy.h"
#include "cmd/runtime/store.h"

namespace fluyt::commands {

Result<int> checkpoint(Invocation& call) {
  CriuOptions o;
  std::vector<Option> table = criu_options(o);
  auto& s = o.settings;
  const std::vector<Option> more = {
      {"parent-path", 0, &s.parent_path, "the checkpoint before, seen from --image-path"},
      {"leave-running", 0, &s.leave_running, "the container goes on"},
      {"tcp-skip-in-flight", 0, &s.tcp_skip_in_flight, "without TCP connections being made"},
      {"link-remap", 0, &s.link_remap, "with open files that have no name left"},
      {"status-fd", 0, &o.status_fd, "gets a zero byte once lazy pages are served"},
      {"page-server", 0, &o.page_server, "ADDRESS:PORT where lazy pages are served"},
      {"pre-dump", 0, &s.pre_dump, "memory alone; the container goes on"}};
  table.insert(table.end(), more.begin(), more.end());
  const auto words =
      FLUYT_TRY(read_words(call, std::move(table), "checkpoint [options] CONTAINER", 1, 1));
  if (!words) return 0;
  FLUYT_TRY(read_criu_options(o));
  Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  FLUYT_TRY(folder.lock());
  const Record record = FLUYT_TRY(folder.load());
  const Status status = FLUYT_TRY(status_of(folder, record));
  if (status != Status::kRunning && status != Status::kPaused) {
    return Error(Code::kFailedPrecondition,
                 cat("container cannot be checkpointed in ", status_name(status), " state"));
  }
  runtime::checkpoint::DumpRequest request;
  request.id = record.id;
  request.bundle = record.bundle;
  auto config = folder.load_config();
  if (!config.ok()) return std::move(config).error();
  request.spec = std::move(*config);
  request.init_pid = record.pid;
  request.cgroup = record.cgroup;
  request.descriptors = record.descriptors;
  request.settings = s;
  FLUYT_TRY(runtime::checkpoint::dump(request));
  if (!s.leave_running && !s.pre_dump) FLUYT_TRY(destroy(call, folder, record));
  return 0;
}

}  // namespace fluyt::commands
