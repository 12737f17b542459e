#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cmd/runtime/commands.h"
#include "cmd/runtime/store.h"
#include "runtime/cgroup/cgroup.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::commands {

namespace {

constexpr size_t kMaxOutput = 16U << 20U;

Result<std::string> run_ps(std::vector<std::string> words) {
  const std::string program = sys::exists("/bin/ps") ? "/bin/ps" : "/usr/bin/ps";
  if (!sys::exists(program))
    return Error(Code::kFailedPrecondition, "this host has no ps: use --format json");
  sys::SpawnOptions options;
  options.args = {program};
  options.args.insert(options.args.end(), words.begin(), words.end());
  const sys::Captured captured =
      FLUYT_TRY(sys::run(std::move(options), "", kMaxOutput, Deadline::after_ms(30'000)));
  if (captured.status.shell_code() != 0) {
    return Error(Code::kFailedPrecondition, cat("ps: ", trim(captured.err)));
  }
  return captured.out;
}

// ps's own lines, the heading and those whose PID column is one of ours.
Result<std::string> filter(const std::string& text, const std::vector<pid_t>& pids) {
  const auto lines = split(text, '\n');
  const auto heading = split_words(lines[0]);
  const auto column = std::find(heading.begin(), heading.end(), "PID") - heading.begin();
  if (static_cast<size_t>(column) == heading.size()) {
    return Error(Code::kInvalidArgument, "couldn't find PID field in ps output");
  }
  std::string out = cat(lines[0], "\n");
  for (size_t i = 1; i < lines.size(); ++i) {
    const auto fields = split_words(lines[i]);
    if (fields.size() <= static_cast<size_t>(column)) continue;
    const auto pid = parse_number<pid_t>(fields[static_cast<size_t>(column)]);
    if (pid && std::binary_search(pids.begin(), pids.end(), *pid)) out += cat(lines[i], "\n");
  }
  return out;
}

}  // namespace

Result<int> ps(Invocation& call) {
  std::string format = "table";
  const auto words = FLUYT_TRY(read_words(call, {{"format", 'f', &format, "table or json"}},
                                          "ps [options] CONTAINER [ps options...]", 1, SIZE_MAX));
  if (!words) return 0;
  const Folder folder = FLUYT_TRY(Folder::open(call.globals.root, (*words)[0]));
  const Record record = FLUYT_TRY(folder.load());
  const std::vector<pid_t> pids = FLUYT_TRY(runtime::cgroup::pids(record.cgroup));
  std::string out;
  if (format == "json") {
    out = nlohmann::json(pids).dump() + "\n";
  } else if (format == "table") {
    std::vector<std::string> options(words->begin() + 1, words->end());
    auto shown = FLUYT_TRY(call.launcher.show_processes(folder, options));
    if (options.empty()) options = {"-ef"};
    out =
        shown ? std::move(*shown) : FLUYT_TRY(filter(FLUYT_TRY(run_ps(std::move(options))), pids));
  } else {
    return Error(Code::kInvalidArgument, cat("invalid format option: ", quote(format)));
  }
  FLUYT_TRY(sys::write_all(sys::FdRef(STDOUT_FILENO), out));
  return 0;
}

}  // namespace fluyt::commands
