#include <filesystem>

#include "base/id.h"
#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/early_signals.h"
#include "cmd/fluyt/log_in.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/pull_view.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/run_logs.h"
#include "cmd/fluyt/run_plan.h"
#include "cmd/fluyt/session.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

// What has been made so far, so that a failure leaves nothing behind.
struct Made {
  std::string sandbox_id;
  std::string container_id;
  std::string log_path;
  bool started = false;
  bool left = false;  // its terminal, to itself
};

class Run final : public Command {
 public:
  void declare(Options& options) override {
    options.value("--name", o_.name, "NAME", "call it so (else something is made up)");
    options.flag("-d,--detach", o_.detached, "leave it running and print its id");
    options.flag("-i,--interactive", o_.interactive, "pass standard input on");
    options.flag("-t,--tty", o_.tty, "give it a terminal");
    options.value("--detach-keys", keys_, "KEYS", cat("leave its terminal by them (", keys_, ")"));
    options.flag("--rm", o_.remove, "remove it when it has ended");
    options.values("-e,--env", o_.envs, "KEY[=VALUE]",
                   "set a variable, from here when without VALUE");
    options.value("-w,--workdir", o_.workdir, "DIR", "start in this folder");
    options.values("-v,--volume", o_.volumes, "HOST:DIR[:ro]",
                   "show a file or folder of the host in it");
    options.values("-p,--publish", o_.ports, "[IP:]HOST:PORT[/udp]",
                   "lead a port of the host to it");
    options.value("--network", o_.network, "NET", "pod: a network of its own; host (pod)");
    options.value("--runtime", o_.runtime, "NAME", "runtime handler; fluyt info lists them");
    options.value("--hostname", o_.hostname, "NAME", "what it takes its host for (its own name)");
    options.value("-u,--user", o_.user, "USER", "run as UID[:GID] or a name that the image knows");
    options.value("--entrypoint", o_.entrypoint, "PROGRAM", "in place of the image's");
    options.value("-m,--memory", o_.memory, "SIZE", "at most so much, such as 512m or 1g");
    options.value("--cpus", o_.cpus, "N", "at most so many processors, such as 1.5");
    options.values("-l,--label", o_.labels, "KEY=VALUE", "note something about it");
    options.values("--cap-add", o_.cap_add, "CAP", "add a capability");
    options.values("--cap-drop", o_.cap_drop, "CAP", "take a capability away, or ALL");
    options.flag("--read-only", o_.readonly, "make its root read-only");
    options.flag("--privileged", o_.privileged, "let it do nearly all that the host's root may");
    options.rest(rest_);
  }

  Result<int> run(Context& context) override {
    if (rest_.empty()) return context.usage("an image is expected");
    o_.image = rest_[0];
    o_.command.assign(rest_.begin() + 1, rest_.end());
    const std::string random = make_id();
    if (o_.name.empty()) o_.name = cat("run-", random.substr(0, 8));
    if (o_.tty && o_.interactive && !o_.detached && !is_terminal(Stream::kIn)) {
      return context.usage("-t with -i: standard input is not a terminal");
    }
    auto keys = DetachKeys::parse(keys_);
    if (!keys.ok()) return context.usage(cat("--detach-keys: ", keys.error().message()));
    std::error_code ignored;
    const std::string cwd = std::filesystem::current_path(ignored).string();
    // Once without knowing where logs go: a wrong option is to be told before anything is done.
    auto plan = plan_run(o_, random, "", cwd);
    if (!plan.ok()) return context.usage(plan.error().message());
    const bool reads = o_.interactive && !o_.detached;
    auto input = FLUYT_TRY(Input::create(reads ? Input::Read::kYes : Input::Read::kNo));
    EarlySignals early(*input);
    Client* client = FLUYT_TRY(context.client());
    const auto info = FLUYT_TRY(client->info());
    plan->sandbox.set_log_directory(run_log_folder(info, cat(o_.name, "-", random.substr(0, 8))));
    FLUYT_TRY(check_name_is_free(*client));
    FLUYT_TRY(need_image(*client));

    early.note();
    Made made;
    auto code = start(context, *client, *plan, *input, early, std::move(*keys), made);
    if (!code.ok() && made.started && code.error().code() == Code::kUnavailable) {
      return std::move(code).error().add_context(
          cat(o_.name, " goes on without us (fluyt attach, logs and rm know it)"));
    }
    const bool leaves_it = o_.detached || made.left;  // fluytd removes it where that was asked
    if (!code.ok() || (o_.remove && !leaves_it)) undo(*client, info, made);
    return code;
  }

 private:
  Result<> check_name_is_free(Client& client) const {
    const auto sandboxes = FLUYT_TRY(client.list_sandboxes());
    for (const cri::PodSandbox& sandbox : sandboxes.items()) {
      if (!is_run_sandbox(sandbox) || sandbox.metadata().name() != o_.name) continue;
      return taken(o_.name);
    }
    return {};
  }

  Result<> need_image(Client& client) const {
    if (FLUYT_TRY(client.image_status(o_.image)).has_image()) return {};
    control::PullRequest request;
    request.set_image(o_.image);
    FLUYT_TRY(LogIn().fill(o_.image, *request.mutable_credentials()));
    FLUYT_TRY(pull_with_view(client, request, Verbosity::kNormal));
    return {};
  }

  // Of two who ask for a name at once, fluytd gives both the one sandbox.
  static Result<> check_is_ours(Client& client, const RunPlan& plan, const std::string& id) {
    const auto sandboxes = FLUYT_TRY(client.list_sandboxes());
    for (const cri::PodSandbox& sandbox : sandboxes.items()) {
      if (sandbox.id() != id) continue;
      const auto label = sandbox.labels().find(kRunLabel);
      if (label != sandbox.labels().end() && label->second == plan.sandbox.labels().at(kRunLabel))
        return {};
    }
    return taken(plan.sandbox.metadata().name());
  }

  static Error taken(const std::string& name) {
    return Error(Code::kAlreadyExists, cat("--name: ", quote(name), " is taken; fluyt rm ", name,
                                           " removes the one that has it"));
  }

  Result<int> start(Context& context, Client& client, const RunPlan& plan, Input& input,
                    EarlySignals& early, DetachKeys keys, Made& made) {
    cri::RunPodSandboxRequest sandbox;
    *sandbox.mutable_config() = plan.sandbox;
    made.log_path = cat(plan.sandbox.log_directory(), "/", plan.container.log_path());
    sandbox.set_runtime_handler(o_.runtime);
    auto run = client.run_sandbox(sandbox);
    if (!run.ok()) return advised(std::move(run).error());
    FLUYT_TRY(check_is_ours(client, plan, run->pod_sandbox_id()));
    made.sandbox_id = run->pod_sandbox_id();
    cri::CreateContainerRequest container;
    container.set_pod_sandbox_id(made.sandbox_id);
    *container.mutable_config() = plan.container;
    *container.mutable_sandbox_config() = plan.sandbox;
    made.container_id = FLUYT_TRY(noting_failure(context, client.create(container))).container_id();
    early.stop();
    if (early.noted() != 0) {
      context.failure = 128 + early.noted();
      return Error(Code::kCancelled, "interrupted");
    }
    if (!o_.detached) return in_foreground(context, client, input, std::move(keys), made);
    FLUYT_TRY(noting_failure(context, client.start(made.container_id)));
    print(printable(made.container_id) + "\n");
    return 0;
  }

  // What a person can do about it who has no cluster.
  static Error advised(Error error) {
    if (error.message().find("no network configuration") == std::string::npos) return error;
    return Error(error.code(), cat(error.message(), "; --network host does without one"));
  }

  Result<int> in_foreground(Context& context, Client& client, Input& input, DetachKeys keys,
                            Made& made) {
    control::AttachRequest::Start start;
    start.set_container_id(made.container_id);
    start.set_stdin(o_.interactive);
    const AttachEnd end =
        FLUYT_TRY(run_attach(client, input, std::move(start), std::move(keys), [&]() -> Result<> {
          FLUYT_TRY(noting_failure(context, client.start(made.container_id)));
          made.started = true;
          return {};
        }));
    if (end.left) {
      made.left = true;
      write_out(Stream::kErr, cat("\nfluyt: ", o_.name, " goes on; fluyt attach ", o_.name,
                                  " comes back", o_.remove ? ", fluyt rm removes it" : "", "\n"));
      return 0;
    }
    if (end.detached_by) {
      if (o_.remove) client.stop(made.container_id, 10).ignore("it is removed next");
      return 128 + *end.detached_by;
    }
    // The pod is fluytd's to end, which alone knows whether the container runs again by now. Then a
    // wait would be for the new one: only where the exit was not told with the last output.
    const int code =
        end.exit_code ? *end.exit_code : FLUYT_TRY(client.wait(made.container_id)).exit_code();
    const auto now = client.container_status(made.container_id);
    if (now.ok() && now->status().reason() == "OOMKilled") {
      write_out(Stream::kErr, cat("fluyt: ", o_.name, " ran out of memory and was killed\n"));
    }
    return code;
  }

  template <class Value>
  static Result<Value> noting_failure(Context& context, Result<Value> result) {
    if (result.ok()) return result;
    context.failure = exit_of_program(result.error());
    return result;
  }

  static void undo(Client& client, const control::InfoResponse& info, const Made& made) {
    if (!made.container_id.empty()) {
      client.remove(made.container_id).ignore("the sandbox takes it along");
    }
    if (!made.sandbox_id.empty()) {
      client.stop_sandbox(made.sandbox_id).ignore("removing it tries again");
      auto removed = client.remove_sandbox(made.sandbox_id);
      if (!removed.ok()) {
        write_out(Stream::kErr,
                  cat("fluyt: cleaning up: ", printable(removed.error().message()), "\n"));
      }
    }
    remove_run_log(info, made.log_path).ignore("a log that is left says so itself");
  }

  RunOptions o_;
  std::string keys_ = kDetachKeys;
  std::vector<std::string> rest_;
};

}  // namespace

CommandInfo run_command() {
  return {
      .name = "run",
      .arguments = "[OPTIONS] IMAGE [COMMAND [ARGUMENTS]]",
      .summary = "Run a container",
      .details =
          "The image is pulled when it is not here. In the foreground the exit status is the\n"
          "container's; 125 when fluyt failed, 126 when the program may not be run, 127 when "
          "there\n"
          "is none. Signals that fluyt gets go to the container; the third INT or TERM leaves it\n"
          "running and ends fluyt, as ctrl-p ctrl-q at its terminal does.\n\n"
          "Examples:\n"
          "  fluyt run --rm busybox echo hello\n"
          "  fluyt run --rm -it busybox sh\n"
          "  fluyt run -d --rm --name job busybox sleep 60\n"
          "  fluyt run -d --name web -p 8080:80 -v ./site:/www:ro -m 256m registry.example.org/web",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Run>()); },
      .failure = kExitEngine,
      .usage = kExitEngine};
}

}  // namespace fluyt::cli
