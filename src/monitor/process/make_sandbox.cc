#include <utility>

#include "base/strings.h"
#include "monitor/process/monitor.h"
#include "sys/file.h"

namespace fluyt::monitor {

// On record too: whoever cleans up after us is to call the same program.
Result<> Monitor::choose_runtime(const SandboxRequest& request) {
  const std::string path = cat(options_.state_dir, "/", kRuntimeFile);
  if (!request.runtime) {
    FLUYT_TRY(sys::remove_file(sys::kCwd, path));
    runtime_ = make_linked_runtime(options_.state_dir, host_);
    return {};
  }
  FLUYT_TRY(sys::write_file_atomic(sys::kCwd, path, encode_runtime(*request.runtime), 0600));
  runtime_ = make_program_runtime(options_.state_dir, *request.runtime);
  return {};
}

void Monitor::handle(const RequestKey& key, wire::MakeSandbox verb, Fds /*fds*/) {
  if (sandbox_requested_)
    return done(key, Error(Code::kAlreadyExists, "the sandbox has been made"));
  if (auto checked = check_sandbox(verb.sandbox); !checked.ok())
    return done(key, std::move(checked));
  if (auto chosen = choose_runtime(verb.sandbox); !chosen.ok()) return done(key, std::move(chosen));
  sandbox_requested_ = true;
  const sys::FdRef program = options_.pod_init_program;
  WorkerJob job;
  job.body = [&request = verb.sandbox, this, program](const Announce&) {
    return make_sandbox(request, options_.state_dir, program);
  };
  job.keep = {program};
  job.deadline_ms = verb.deadline_ms;
  job.makes_children = true;
  job.done = [this, key, request = verb.sandbox](Result<WorkerReply> reply, const std::string&) {
    if (reply.ok()) requests_.note_trace(key, std::move(reply->trace));
    auto sandbox = reply.ok() ? sandbox_from(std::move(reply).value(), request, options_.state_dir)
                              : Result<Sandbox>(std::move(reply).error());
    if (!sandbox.ok()) {
      sandbox_requested_ = false;
      unmount_namespaces(options_.state_dir)
          .ignore("a worker that was given up may have mounted them");
      return done(key, std::move(sandbox).error());
    }
    sandbox_ = std::move(sandbox).value();
    if (sandbox_->pod_init) {
      auto written = sys::write_file_atomic(sys::kCwd, cat(options_.state_dir, "/", kPodInitFile),
                                            encode(sandbox_->pod_init_record), 0600);
      if (!written.ok()) log(written.error().message());
      take_early_exit(sandbox_->pod_init->pid());
    }
    requests_.finish(key, wire::Outcome(sandbox_->namespaces));
  };
  auto started = workers_.start(std::move(job));
  if (started.ok()) return;
  sandbox_requested_ = false;
  done(key, std::move(started).error());
}

}  // namespace fluyt::monitor
