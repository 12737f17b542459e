#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/targets.h"

namespace fluyt::cli {

namespace {

class Stop final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("CONTAINER", references_, Options::Need::kRequired);
    options.value("-t,--time", grace_, "SECONDS", "wait so long before killing it (10)");
  }

  Result<int> run(Context& context) override {
    const auto grace = parse_number<uint32_t>(grace_);
    if (!grace)
      return context.usage(cat("--time: ", quote(grace_, 64), " is not a number of seconds"));
    Client* client = FLUYT_TRY(context.client());
    return for_each_target(*client, references_, [&](const Target& target) -> Result<> {
      if (target.container) FLUYT_TRY(client->stop(target.container->id(), *grace));
      if (target.sandbox) FLUYT_TRY(client->stop_sandbox(target.sandbox->id()));
      return {};
    });
  }

 private:
  std::vector<std::string> references_;
  std::string grace_ = "10";
};

}  // namespace

CommandInfo stop_command() {
  return {
      .name = "stop",
      .arguments = "[OPTIONS] CONTAINER...",
      .summary = "Stop containers or pods",
      .details =
          "A container gets its stop signal, and SIGKILL when it has not ended in time. A pod is\n"
          "stopped with all of its containers, at once.\n\n"
          "Examples:\n"
          "  fluyt stop web\n"
          "  fluyt stop -t 0 web worker",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Stop>()); }};
}

}  // namespace fluyt::cli
