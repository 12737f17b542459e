#include "base/signal_name.h"
#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/targets.h"

namespace fluyt::cli {

namespace {

class Kill final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("CONTAINER", references_, Options::Need::kRequired);
    options.value("-s,--signal", signal_, "SIGNAL", "a name or a number (KILL)");
  }

  Result<int> run(Context& context) override {
    const auto number = signal_number(signal_);
    if (!number) return context.usage(cat("--signal: ", quote(signal_, 64), " is no signal"));
    Client* client = FLUYT_TRY(context.client());
    return for_each_container(*client, references_, [&](const cri::Container& container) {
      return client->signal(container.id(), *number);
    });
  }

 private:
  std::vector<std::string> references_;
  std::string signal_ = "KILL";
};

}  // namespace

CommandInfo kill_command() {
  return {
      .name = "kill",
      .arguments = "[OPTIONS] CONTAINER...",
      .summary = "Send a signal to containers",
      .details =
          "The container's first process gets it, at once and without a second word: fluyt stop\n"
          "asks first. Of a container whose first process ends all others end.\n\n"
          "Examples:\n"
          "  fluyt kill web\n"
          "  fluyt kill -s HUP web worker",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Kill>()); }};
}

}  // namespace fluyt::cli
