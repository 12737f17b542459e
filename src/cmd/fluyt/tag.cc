#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"

namespace fluyt::cli {

namespace {

class Tag final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("IMAGE", image_, Options::Need::kRequired);
    options.positional("NAME", name_, Options::Need::kRequired);
  }
  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    FLUYT_TRY(client->tag(image_, name_));
    return 0;
  }

 private:
  std::string image_;
  std::string name_;
};

}  // namespace

CommandInfo tag_command() {
  return {.name = "tag",
          .arguments = "IMAGE NAME[:TAG]",
          .summary = "Give an image another name",
          .details =
              "A name that another image had moves to this one.\n\n"
              "Examples:\n"
              "  fluyt tag app:dev app:1.2\n"
              "  fluyt tag 3f57d9401f8d registry.example.org:5000/team/app",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Tag>()); }};
}

}  // namespace fluyt::cli
