#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/pull_view.h"
#include "cmd/fluyt/terminal.h"
#include "cmd/fluyt/text/escape.h"
#include "sys/file.h"

namespace fluyt::cli {

namespace {

constexpr size_t kMaxPassword = 64 * 1024;

class Pull final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("IMAGE", image_, Options::Need::kRequired);
    options.flag("-q,--quiet", quiet_, "print the image's id alone");
    options.value("-u,--username", username_, "NAME", "log in to the registry for this pull");
    options.flag("--password-stdin", password_stdin_, "read the password from standard input");
  }

  Result<int> run(Context& context) override {
    control::PullRequest request;
    request.set_image(image_);
    if (username_.empty() == password_stdin_) {
      return context.usage("--username and --password-stdin go together");
    }
    if (password_stdin_) {
      const std::string text = FLUYT_TRY(sys::read_all(sys::FdRef(0), kMaxPassword));
      request.mutable_credentials()->set_username(username_);
      request.mutable_credentials()->set_password(std::string(trim(text)));
    }
    Client* client = FLUYT_TRY(context.client());
    const auto image = FLUYT_TRY(
        pull_with_view(*client, request, quiet_ ? Verbosity::kQuiet : Verbosity::kNormal));
    print(printable(image.id()) + "\n");
    return 0;
  }

 private:
  std::string image_;
  std::string username_;
  bool quiet_ = false;
  bool password_stdin_ = false;
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
              "  fluyt pull -u me --password-stdin private.example.org/app < password-file",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Pull>()); }};
}

}  // namespace fluyt::cli
