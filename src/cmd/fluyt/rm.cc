#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/run_logs.h"
#include "cmd/fluyt/targets.h"

namespace fluyt::cli {

namespace {

class Remove final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("CONTAINER", references_, Options::Need::kRequired);
    options.flag("-f,--force", force_, "stop it first when it runs");
  }

  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    const auto info = FLUYT_TRY(client->info());
    return for_each_target(*client, references_, [&](const Target& target) {
      return target.container ? remove_container(*client, info, target)
                              : remove_pod(*client, target);
    });
  }

 private:
  Result<> remove_container(Client& client, const control::InfoResponse& info,
                            const Target& target) const {
    const cri::Container& container = *target.container;
    if (container.state() == cri::CONTAINER_RUNNING && !force_) {
      return Error(Code::kFailedPrecondition, cat("container ", quote(container.metadata().name()),
                                                  " is running: stop it, or use --force"));
    }
    const auto status = FLUYT_TRY(client.container_status(container.id()));
    FLUYT_TRY(client.remove(container.id()));
    if (!target.sandbox) return {};
    // Before the pod, whose end may fail and be tried again: then nobody knows the log any more.
    FLUYT_TRY(remove_run_log(info, status.status().log_path()));
    FLUYT_TRY(client.stop_sandbox(target.sandbox->id()));
    return client.remove_sandbox(target.sandbox->id());
  }

  Result<> remove_pod(Client& client, const Target& target) const {
    const cri::PodSandbox& sandbox = *target.sandbox;
    if (sandbox.state() == cri::SANDBOX_READY && !force_) {
      return Error(Code::kFailedPrecondition, cat("pod ", quote(sandbox.metadata().name()),
                                                  " is ready: stop it, or use --force"));
    }
    FLUYT_TRY(client.stop_sandbox(sandbox.id()));
    return client.remove_sandbox(sandbox.id());
  }

  std::vector<std::string> references_;
  bool force_ = false;
};

}  // namespace

CommandInfo rm_command() {
  return {
      .name = "rm",
      .arguments = "[OPTIONS] CONTAINER...",
      .summary = "Remove containers or pods",
      .details =
          "A container of \"fluyt run\" goes with its pod and its log; a pod goes with all of its\n"
          "containers.\n\n"
          "Examples:\n"
          "  fluyt rm web\n"
          "  fluyt rm -f $(fluyt ps -aq)",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Remove>()); }};
}

}  // namespace fluyt::cli
