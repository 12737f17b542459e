#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

class Version final : public Command {
 public:
  void declare(Options& options) override {
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    if (*format == Format::kTable) print("fluyt     " FLUYT_VERSION "\n");
    Client* client = FLUYT_TRY(context.client());
    const auto version = FLUYT_TRY(client->version());
    if (*format == Format::kJson) {
      print(to_json(version) + "\n");
      return 0;
    }
    const auto info = FLUYT_TRY(client->info());
    print(cat(
        printable(version.runtime_name()) == "fluyt" ? "fluytd" : printable(version.runtime_name()),
        "    ", printable(version.runtime_version()), "\n"));
    print(cat("CRI       ", printable(version.runtime_api_version()), "\n"));
    print(cat("control   ", printable(info.api_version()), "\n"));
    return 0;
  }

 private:
  std::string format_ = "table";
};

}  // namespace

CommandInfo version_command() {
  return {.name = "version",
          .arguments = "[OPTIONS]",
          .summary = "Show the versions of this command and of fluytd",
          .details = "",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Version>()); }};
}

}  // namespace fluyt::cli
