#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

class ImagePrune final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("-a,--all", all_, "those with a tag, too");
  }

  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    const auto before = FLUYT_TRY(client->image_fs_info());
    const auto pruned = FLUYT_TRY(client->prune_images(all_));
    for (const control::ImageDetail& detail : pruned.removed()) {
      for (const std::string& name : detail.image().repo_tags()) {
        print(cat("untagged ", printable(name), "\n"));
      }
      print(cat("removed ", printable(detail.image().id()), "\n"));
    }
    const auto after = FLUYT_TRY(client->image_fs_info());
    const uint64_t freed = before > after ? before - after : 0;
    print(cat("Total reclaimed space: ", human_size(freed), "\n"));
    return 0;
  }

 private:
  bool all_ = false;
};

}  // namespace

CommandInfo image_prune_command() {
  return {.name = "image prune",
          .arguments = "[OPTIONS]",
          .summary = "Remove images that no container was made from",
          .details =
              "Those without a tag, or with --all every one. Pinned images stay.\n\n"
              "Examples:\n"
              "  fluyt image prune\n"
              "  fluyt image prune --all",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<ImagePrune>()); }};
}

}  // namespace fluyt::cli
