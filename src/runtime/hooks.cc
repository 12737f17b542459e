#include "runtime/hooks.h"

#include <unistd.h>

#include <cstring>

#include "base/strings.h"
#include "base/time.h"
#include "sys/identity.h"
#include "sys/process.h"

namespace fluyt::runtime {

namespace {

constexpr size_t kMaxOutput = 4096;

std::vector<std::string> environment() {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) out.emplace_back(*entry);
  return out;
}

Result<> run_hook(const oci::Hook& hook, const std::string& state_json, const HookPlace& place) {
  sys::SpawnOptions options;
  // args[0] is what the program is told that it is called, and Docker's hook acts on it.
  options.program = hook.path;
  options.args = hook.args;
  if (options.args.empty()) options.args = {hook.path};
  options.env = hook.env;
  if (hook.env.empty() && place.env == HookPlace::Env::kCallers) options.env = environment();
  options.dies_with_us = place.env == HookPlace::Env::kNone;  // the first process, that is
  options.cwd = access(place.cwd.c_str(), X_OK) == 0 ? place.cwd : "/";
  const Deadline deadline =
      hook.timeout ? Deadline::after_ms(int64_t{*hook.timeout} * 1000) : Deadline::never();
  const sys::Captured captured =
      FLUYT_TRY(sys::run(std::move(options), state_json, kMaxOutput, deadline, place.stop));
  if (captured.stopped) return Error(Code::kCancelled, "killed, for the container is given up");
  if (captured.timed_out) {
    return Error(Code::kDeadlineExceeded, cat("killed after its timeout of ", *hook.timeout, " s"));
  }
  const int status = captured.status.shell_code();
  if (status == 0) return {};
  const std::string_view said = trim(captured.err.empty() ? captured.out : captured.err);
  const std::string how = captured.status.signal == 0
                              ? cat("exit status ", status)
                              : cat("signal ", captured.status.signal, ": ",
                                    to_lower(strsignal(captured.status.signal)));
  return Error(Code::kFailedPrecondition,
               cat(how, said.empty() ? "" : ": ", said.empty() ? "" : quote(said, 1024)));
}

}  // namespace

Result<> run_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind,
                   const std::string& state_json, const HookPlace& place) {
  // A hook need not read what it is told.
  const sys::IgnoreBrokenPipes quiet;
  for (size_t i = 0; i < hooks.size(); ++i) {
    FLUYT_TRY_CONTEXT(run_hook(hooks[i], state_json, place),
                      cat("error running ", kind, " hook #", i, ": hooks.", kind, "[", i, "] ",
                          quote(hooks[i].path)));
  }
  return {};
}

std::vector<std::string> run_all_hooks(const std::vector<oci::Hook>& hooks, std::string_view kind,
                                       const std::string& state_json, const HookPlace& place) {
  const sys::IgnoreBrokenPipes quiet;
  std::vector<std::string> failures;
  for (size_t i = 0; i < hooks.size(); ++i) {
    auto done = run_hook(hooks[i], state_json, place);
    if (done.ok()) continue;
    failures.push_back(
        cat("hooks.", kind, "[", i, "] ", quote(hooks[i].path), ": ", done.error().message()));
  }
  return failures;
}

}  // namespace fluyt::runtime
