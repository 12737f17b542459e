#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/early_signals.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/session.h"

namespace fluyt::cli {

namespace {

class Attach final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("CONTAINER", container_, Options::Need::kRequired);
    options.flag("--no-stdin", no_stdin_, "show output only");
    options.value("--detach-keys", keys_, "KEYS", cat("leave its terminal by them (", keys_, ")"));
  }

  Result<int> run(Context& context) override {
    auto keys = DetachKeys::parse(keys_);
    if (!keys.ok()) return context.usage(cat("--detach-keys: ", keys.error().message()));
    auto input = FLUYT_TRY(Input::create(no_stdin_ ? Input::Read::kNo : Input::Read::kYes));
    EarlySignals early(*input);
    Client* client = FLUYT_TRY(context.client());
    const cri::Container container = FLUYT_TRY(find_container(*client, container_));
    if (container.state() != cri::CONTAINER_RUNNING) {
      return Error(Code::kFailedPrecondition,
                   cat("container ", quote(container_), " is not running"));
    }
    control::AttachRequest::Start start;
    start.set_container_id(container.id());
    start.set_stdin(!no_stdin_);
    early.stop();
    const AttachEnd end = FLUYT_TRY(
        run_attach(*client, *input, std::move(start), std::move(*keys), [] { return Result<>(); }));
    if (end.left) return 0;
    if (end.detached_by) return 128 + *end.detached_by;
    if (end.exit_code) return *end.exit_code;  // it may be gone by now
    return FLUYT_TRY(client->wait(container.id())).exit_code();
  }

 private:
  std::string container_;
  std::string keys_ = kDetachKeys;
  bool no_stdin_ = false;
};

}  // namespace

CommandInfo attach_command() {
  return {
      .name = "attach",
      .arguments = "[OPTIONS] CONTAINER",
      .summary = "Connect to a running container's streams",
      .details =
          "Shows what is written from now on (fluyt logs shows what was), and ends with the\n"
          "container, with its exit status. Signals go to the container; its terminal is left by\n"
          "ctrl-p ctrl-q, and goes on.\n\n"
          "Examples:\n"
          "  fluyt attach shell\n"
          "  fluyt attach --no-stdin web",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Attach>()); }};
}

}  // namespace fluyt::cli
