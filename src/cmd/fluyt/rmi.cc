#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

class RemoveImages final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("IMAGE", names_, Options::Need::kRequired);
  }

  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    int status = 0;
    for (const std::string& name : names_) {
      auto removed = remove(*client, name);
      if (removed.ok()) {
        print(*removed + "\n");
        continue;
      }
      complain(removed.error());
      status = kExitFailed;
    }
    return status;
  }

 private:
  static Result<std::string> remove(Client& client, const std::string& name) {
    const auto found = FLUYT_TRY(client.image_status(name));
    if (!found.has_image()) return Error(Code::kNotFound, cat("no image ", quote(name)));
    const cri::Image& image = found.image();
    // CRI's removal takes every name of an image with it; a person who names some means those.
    const std::vector<std::string> meant = names_meant(image, name);
    if (meant.empty() || meant.size() == static_cast<size_t>(image.repo_tags_size())) {
      FLUYT_TRY(client.remove_image(image.id()));
      return cat("removed ", printable(image.id()));
    }
    std::string told;
    for (const std::string& tag : meant) {
      FLUYT_TRY(client.untag(tag));
      told += cat(told.empty() ? "" : "\n", "untagged ", printable(tag));
    }
    return told;
  }

  // Of the image's names those that `name` is: itself, or all of its repository where it has a
  // digest. None: it is the image's id.
  static std::vector<std::string> names_meant(const cri::Image& image, const std::string& name) {
    std::vector<std::string> meant;
    for (const std::string& tag : image.repo_tags()) {
      if (is_short_for(name, tag) || is_short_for(name + ":latest", tag)) meant.push_back(tag);
    }
    for (const std::string& digest : image.repo_digests()) {
      if (!is_short_for(name, digest)) continue;
      const std::string repository = digest.substr(0, digest.find('@')) + ":";
      for (const std::string& tag : image.repo_tags()) {
        if (tag.starts_with(repository)) meant.push_back(tag);
      }
    }
    return meant;
  }

  // "busybox:1" is short for "docker.io/library/busybox:1", as "a/b" is for "docker.io/a/b".
  static bool is_short_for(std::string_view name, std::string_view whole) {
    if (name == whole) return true;
    for (const std::string_view front : {"docker.io/library/", "docker.io/"}) {
      if (whole.starts_with(front) && whole.substr(front.size()) == name) return true;
    }
    return false;
  }

  std::vector<std::string> names_;
};

}  // namespace

CommandInfo rmi_command() {
  return {
      .name = "rmi",
      .arguments = "IMAGE...",
      .summary = "Remove images",
      .details =
          "A name is taken from an image that has others; the image goes with its last name,\n"
          "or at once when it is given by id. A name with a digest is all those that the image\n"
          "has in that repository. Containers keep what they use.\n\n"
          "Examples:\n"
          "  fluyt rmi busybox\n"
          "  fluyt rmi 3f57d9401f8d",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<RemoveImages>()); }};
}

}  // namespace fluyt::cli
