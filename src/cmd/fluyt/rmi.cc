#include <optional>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

class RemoveImages final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("IMAGE", names_, Options::Need::kRequired);
  }

  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    std::optional<Error> first;
    for (const std::string& name : names_) {
      auto removed = remove(*client, name);
      if (removed.ok()) {
        print(*removed + "\n");
      } else if (!first) {
        first = std::move(removed).error();
      }
    }
    if (first) return std::move(*first);
    return 0;
  }

 private:
  static Result<std::string> remove(Client& client, const std::string& name) {
    const auto found = FLUYT_TRY(client.image_status(name));
    if (!found.has_image()) return Error(Code::kNotFound, cat("no image ", quote(name)));
    const cri::Image& image = found.image();
    // CRI's removal takes every name of an image with it; a person who names one means that one.
    const bool by_id = short_id(image.id()).starts_with(short_id(name)) || image.id() == name;
    if (!by_id && image.repo_tags_size() > 1 && name.find('@') == std::string::npos) {
      FLUYT_TRY(client.untag(name));
      return cat("untagged ", printable(name));
    }
    FLUYT_TRY(client.remove_image(image.id()));
    return cat("removed ", printable(image.id()));
  }

  std::vector<std::string> names_;
};

}  // namespace

CommandInfo rmi_command() {
  return {.name = "rmi",
          .arguments = "IMAGE...",
          .summary = "Remove images",
          .details =
              "A name is taken from an image that has others; the image goes with its last name,\n"
              "or at once when it is given by id. Containers keep what they use.\n\n"
              "Examples:\n"
              "  fluyt rmi busybox\n"
              "  fluyt rmi 3f57d9401f8d",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<RemoveImages>()); }};
}

}  // namespace fluyt::cli
