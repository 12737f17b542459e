#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

class LogLevel final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("LEVEL", level_, Options::Need::kOptional);
  }
  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    if (level_.empty()) {
      print(cat(printable(FLUYT_TRY(client->info()).log_level()), "\n"));
    } else {
      FLUYT_TRY(client->set_log_level(level_));
    }
    return 0;
  }

 private:
  std::string level_;
};

}  // namespace

CommandInfo log_level_command() {
  return {.name = "log-level",
          .arguments = "[LEVEL]",
          .summary = "Show or set how much fluytd logs",
          .details =
              "LEVEL is trace, debug, info, warn or error, and holds until fluytd reads its\n"
              "configuration again (SIGHUP) or is started again.\n\n"
              "Examples:\n"
              "  fluyt log-level debug",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<LogLevel>()); }};
}

}  // namespace fluyt::cli
