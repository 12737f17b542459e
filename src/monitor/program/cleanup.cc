#include "monitor/program/cleanup.h"

#include <utility>

#include "base/strings.h"
#include "monitor/program/command.h"
#include "monitor/program/log.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::monitor {

namespace {

constexpr size_t kMaxOutput = 64UL << 10U;

Result<> ask(const RuntimeProgram& runtime, const std::string& id, Deadline deadline) {
  sys::SpawnOptions options;
  options.args = delete_command(runtime, {}, id);
  options.env = program_environment();
  const auto done = FLUYT_TRY(sys::run(std::move(options), "", kMaxOutput, deadline));
  if (done.timed_out) return Error(Code::kDeadlineExceeded, "not done at the deadline");
  if (done.status.shell_code() == 0) return {};
  const std::string words = last_words(done.err);
  return Error(Code::kFailedPrecondition,
               words.empty() ? cat("ended with status ", done.status.shell_code()) : words);
}

}  // namespace

Result<> delete_with_program(const RuntimeProgram& runtime, const std::string& id,
                             Deadline deadline) {
  const std::string state = cat(runtime.root, "/", id);
  // Some keep it elsewhere below their root: without a root there is nothing at all.
  if (!sys::exists(runtime.root)) return {};
  auto asked = ask(runtime, id, deadline);
  auto removed = sys::remove_tree(state);
  if (!asked.ok()) {
    return std::move(asked).error().add_context(cat(runtime.path, " delete --force ", id));
  }
  return removed;
}

}  // namespace fluyt::monitor
