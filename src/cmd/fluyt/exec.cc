#include <cstdlib>

#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/early_signals.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/session.h"
#include "cmd/fluyt/text/run_values.h"

namespace fluyt::cli {

namespace {

const char* from_environment(const char* name) { return std::getenv(name); }

class Exec final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("-i,--interactive", interactive_, "pass standard input on");
    options.flag("-t,--tty", tty_, "give the program a terminal");
    options.values("-e,--env", envs_, "KEY[=VALUE]",
                   "set a variable, from here when without VALUE");
    options.value("-w,--workdir", workdir_, "DIR", "start in this folder");
    options.value("-u,--user", user_, "USER[:GROUP]", "run as this user");
    options.rest(rest_);
  }

  Result<int> run(Context& context) override {
    if (rest_.empty()) return context.usage("a container is expected");
    if (rest_.size() == 1) return context.usage("a command is expected behind the container");
    if (tty_ && interactive_ && !is_terminal(Stream::kIn)) {
      return context.usage("-t with -i: standard input is not a terminal");
    }
    control::ExecRequest::Start start;
    for (size_t i = 1; i < rest_.size(); ++i) start.add_args(rest_[i]);
    for (const std::string& text : envs_) {
      const auto env = parse_env(text, from_environment);
      if (!env.ok()) return context.usage(cat("--env: ", env.error().message()));
      if (!*env) continue;
      control::EnvVar* message = start.add_envs();
      message->set_name((*env)->first);
      message->set_value((*env)->second);
    }
    start.set_working_dir(workdir_);
    start.set_user(user_);
    start.set_terminal(tty_);
    start.set_stdin(interactive_);
    // Before the connection makes threads: signals are to come here alone.
    auto input = FLUYT_TRY(Input::create(interactive_ ? Input::Read::kYes : Input::Read::kNo));
    EarlySignals early(*input);
    Client* client = FLUYT_TRY(context.client());
    start.set_container_id(FLUYT_TRY(find_container(*client, rest_[0])).id());
    early.stop();
    auto code = run_exec(*client, *input, std::move(start));
    if (code.ok()) return code;
    context.failure = exit_of_program(code.error());
    return std::move(code).error();
  }

 private:
  std::vector<std::string> rest_;
  std::vector<std::string> envs_;
  std::string workdir_;
  std::string user_;
  bool interactive_ = false;
  bool tty_ = false;
};

}  // namespace

CommandInfo exec_command() {
  return {
      .name = "exec",
      .arguments = "[OPTIONS] CONTAINER COMMAND [ARGUMENTS]",
      .summary = "Run a program in a running container",
      .details =
          "The exit status is the program's; 125 when fluyt failed, 126 when the program may not\n"
          "be run, 127 when there is none. Signals that fluyt gets go to it; the third INT or "
          "TERM\n"
          "ends it.\n\n"
          "Examples:\n"
          "  fluyt exec web ps\n"
          "  fluyt exec -it web sh\n"
          "  tar c . | fluyt exec -i web tar x -C /srv",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Exec>()); },
      .failure = kExitEngine,
      .usage = kExitEngine};
}

}  // namespace fluyt::cli
