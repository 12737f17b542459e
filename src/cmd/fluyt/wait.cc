#include <future>

#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/resolve.h"

namespace fluyt::cli {

namespace {

class Wait final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("CONTAINER", references_, Options::Need::kRequired);
  }

  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    // All at once: one of --rm is gone when the one before it has ended.
    std::vector<std::future<Result<control::WaitResponse>>> ends;
    for (const std::string& reference : references_) {
      ends.push_back(std::async(std::launch::async, [=]() -> Result<control::WaitResponse> {
        return client->wait(FLUYT_TRY(find_container(*client, reference)).id());
      }));
    }
    int status = 0;
    for (auto& end : ends) {
      const auto ended = end.get();
      if (ended.ok()) {
        print(cat(ended->exit_code(), "\n"));
        continue;
      }
      complain(ended.error());
      status = kExitFailed;
    }
    return status;
  }

 private:
  std::vector<std::string> references_;
};

}  // namespace

CommandInfo wait_command() {
  return {
      .name = "wait",
      .arguments = "CONTAINER...",
      .summary = "Wait until containers have ended and print their exit codes",
      .details =
          "One line each, in the order in which they are named; of one that has ended already at\n"
          "once.\n\n"
          "Examples:\n"
          "  fluyt wait job\n"
          "  test \"$(fluyt wait job)\" = 0 && echo done",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Wait>()); }};
}

}  // namespace fluyt::cli
