#include "cmd/fluyt/command.h"
#include "cmd/fluyt/log_in.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/pull_view.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

class Pull final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("IMAGE", image_, Options::Need::kRequired);
    options.flag("-q,--quiet", quiet_, "print the image's id alone");
    options.value("--platform", platform_, "OS/ARCH", "in place of the host's");
    log_in_.declare(options);
  }

  Result<int> run(Context& context) override {
    control::PullRequest request;
    request.set_image(image_);
    request.set_platform(platform_);
    if (!log_in_.is_complete()) {
      return context.usage("--username and --password-stdin go together");
    }
    FLUYT_TRY(log_in_.fill(image_, *request.mutable_credentials()));
    Client* client = FLUYT_TRY(context.client());
    const auto image = FLUYT_TRY(
        pull_with_view(*client, request, quiet_ ? Verbosity::kQuiet : Verbosity::kNormal));
    print(printable(image.id()) + "\n");
    return 0;
  }

 private:
  std::string image_;
  std::string platform_;
  LogIn log_in_;
  bool quiet_ = false;
};

}  // namespace

CommandInfo pull_command() {
  return {.name = "pull",
          .arguments = "[OPTIONS] IMAGE",
          .summary = "Fetch an image from a registry",
          .details =
              "Examples:\n"
              "  fluyt pull busybox\n"
              "  fluyt pull registry.example.org:5000/team/app:1.2\n"
              "  fluyt pull -u me --password-stdin private.example.org/app < password-file\n"
              "Without -u, the credentials of Docker's config.json, its credential helpers and\n"
              "containers' auth.json are used.",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Pull>()); }};
}

}  // namespace fluyt::cli
