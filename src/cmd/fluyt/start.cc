#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/early_signals.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/session.h"
#include "cmd/fluyt/targets.h"

namespace fluyt::cli {

namespace {

// One that has ended is created once more, over the root that it left.
Result<> make_startable(Client& client, const cri::Container& container) {
  if (container.state() != cri::CONTAINER_EXITED) return {};
  return client.recreate(container.id());
}

// Before it is stopped, for fluytd would not start another's again.
Result<> check_is_of_run(const cri::Container& container) {
  if (container.labels().contains(kRunLabel)) return {};
  return Error(Code::kFailedPrecondition,
               cat("container ", quote(container.metadata().name()),
                   " is not of fluyt run: whoever made it, such as a kubelet, starts another"));
}

class Start final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("CONTAINER", references_, Options::Need::kRequired);
    options.flag("-a,--attach", attach_, "connect to its streams and end with its exit status");
    options.flag("-i,--interactive", interactive_, "pass standard input on; with --attach");
    options.value("--detach-keys", keys_, "KEYS", cat("leave its terminal by them (", keys_, ")"));
  }

  Result<int> run(Context& context) override {
    if (attach_) return attached(context);
    if (interactive_) return context.usage("--interactive goes with --attach");
    Client* client = FLUYT_TRY(context.client());
    return for_each_container(*client, references_,
                              [&](const cri::Container& container) -> Result<> {
                                if (container.state() == cri::CONTAINER_RUNNING)
                                  return {};  // as it was to be
                                FLUYT_TRY(make_startable(*client, container));
                                return client->start(container.id());
                              });
  }

 private:
  Result<int> attached(Context& context) {
    if (references_.size() != 1) return context.usage("--attach: one container is expected");
    auto keys = DetachKeys::parse(keys_);
    if (!keys.ok()) return context.usage(cat("--detach-keys: ", keys.error().message()));
    auto input = FLUYT_TRY(Input::create(interactive_ ? Input::Read::kYes : Input::Read::kNo));
    EarlySignals early(*input);
    Client* client = FLUYT_TRY(context.client());
    const cri::Container container = FLUYT_TRY(find_container(*client, references_[0]));
    if (container.state() == cri::CONTAINER_RUNNING) {
      return Error(Code::kFailedPrecondition, cat("container ", quote(references_[0], 128),
                                                  " is running: fluyt attach connects to it"));
    }
    FLUYT_TRY(make_startable(*client, container));
    control::AttachRequest::Start start;
    start.set_container_id(container.id());
    start.set_stdin(interactive_);
    early.stop();
    const AttachEnd end = FLUYT_TRY(
        run_attach(*client, *input, std::move(start), std::move(*keys), [&]() -> Result<> {
          auto started = client->start(container.id());
          if (!started.ok()) context.failure = exit_of_program(started.error());
          return started;
        }));
    if (end.left) return 0;
    if (end.detached_by) return 128 + *end.detached_by;
    if (end.exit_code) return *end.exit_code;
    return FLUYT_TRY(client->wait(container.id())).exit_code();
  }

  std::vector<std::string> references_;
  std::string keys_ = kDetachKeys;
  bool attach_ = false;
  bool interactive_ = false;
};

class Restart final : public Command {
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
    return for_each_container(*client, references_,
                              [&](const cri::Container& container) -> Result<> {
                                FLUYT_TRY(check_is_of_run(container));
                                if (container.state() != cri::CONTAINER_CREATED) {
                                  FLUYT_TRY(client->stop(container.id(), *grace));
                                  FLUYT_TRY(client->recreate(container.id()));
                                }
                                return client->start(container.id());
                              });
  }

 private:
  std::vector<std::string> references_;
  std::string grace_ = "10";
};

}  // namespace

CommandInfo start_command() {
  return {
      .name = "start",
      .arguments = "[OPTIONS] CONTAINER...",
      .summary = "Start containers that have ended",
      .details =
          "Those of fluyt run, with the options that they were run with, over the files that they\n"
          "left; the image must still be here. What they write goes on in the same log. One that\n"
          "runs is left alone.\n\n"
          "Examples:\n"
          "  fluyt start web\n"
          "  fluyt start -ai shell",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Start>()); }};
}

CommandInfo restart_command() {
  return {.name = "restart",
          .arguments = "[OPTIONS] CONTAINER...",
          .summary = "Stop containers and start them again",
          .details =
              "As fluyt stop and fluyt start, one after the other, those of fluyt run. One of\n"
              "fluyt run -d --rm is gone when it has stopped.\n\n"
              "Examples:\n"
              "  fluyt restart web\n"
              "  fluyt restart -t 0 web worker",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Restart>()); }};
}

}  // namespace fluyt::cli
