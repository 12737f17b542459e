#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/log_in.h"
#include "cmd/fluyt/one_of_several.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/pull_view.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

class Push final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("NAME", name_, Options::Need::kRequired);
    options.flag("-q,--quiet", quiet_, "print the manifest's digest alone");
    log_in_.declare(options);
  }

  Result<int> run(Context& context) override {
    control::PushRequest request;
    request.set_image(name_);
    if (!log_in_.is_complete()) {
      return context.usage("--username and --password-stdin go together");
    }
    FLUYT_TRY(log_in_.fill(name_, *request.mutable_credentials()));
    Client* client = FLUYT_TRY(context.client());
    LayerView view(Verb::kPush, quiet_ ? Verbosity::kQuiet : Verbosity::kNormal);
    const auto pushed = FLUYT_TRY(client->push(request, [&](const control::PushResponse& response) {
      if (response.has_one_of_several() && !quiet_) tell(response.one_of_several());
      view.update(response.layers());
    }));
    if (quiet_) {
      print(printable(pushed.digest()) + "\n");
      return 0;
    }
    print(cat(printable(name_), ": digest: ", printable(pushed.digest()), " size: ", pushed.size(),
              "\n"));
    if (pushed.remade_layers() != 0) {
      print(
          cat(pushed.remade_layers(), pushed.remade_layers() == 1 ? " layer was" : " layers were",
              " compressed anew, since the blobs were not kept: the image is the same, its digest "
              "is not the one that it came by.\n"));
    }
    return 0;
  }

 private:
  std::string name_;
  bool quiet_ = false;
  LogIn log_in_;
};

}  // namespace

CommandInfo push_command() {
  return {.name = "push",
          .arguments = "[OPTIONS] NAME[:TAG]",
          .summary = "Send an image to a registry",
          .details =
              "The name says which registry and repository; \"fluyt tag\" gives an image another.\n"
              "What the registry has already is not sent again. Of an image that came by an index\n"
              "of several platforms the manifest of the one that is here is sent, and not the "
              "index.\n\n"
              "Examples:\n"
              "  fluyt tag app registry.example.org:5000/team/app:1.2\n"
              "  fluyt push registry.example.org:5000/team/app:1.2",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Push>()); }};
}

}  // namespace fluyt::cli
