#include "cmd/fluyt/text/image_tree.h"

#include <map>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

std::string name_of(const control::Image& image) {
  if (!image.repo_tags().empty()) return image.repo_tags(0);
  if (!image.repo_digests().empty()) return image.repo_digests(0);
  return short_id(image.id());
}

using Names = std::map<std::string, std::string>;  // by id

std::vector<std::string> named(const google::protobuf::RepeatedPtrField<std::string>& ids,
                               const Names& names) {
  std::vector<std::string> out;
  for (const std::string& id : ids) {
    const auto found = names.find(id);
    out.push_back(found == names.end() ? short_id(id) : found->second);
  }
  return out;
}

class ImageTree final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("IMAGE", images_, Options::Need::kOptional);
  }

  Result<int> run(Context& context) override {
    Client* client = FLUYT_TRY(context.client());
    const auto listed = FLUYT_TRY(client->image_details());
    const auto containers = FLUYT_TRY(client->list_containers());
    Names image_names;
    Names container_names;
    for (const auto& detail : listed.images()) {
      image_names[detail.image().id()] = name_of(detail.image());
    }
    for (const auto& c : containers.containers()) container_names[c.id()] = c.metadata().name();
    std::vector<control::ImageDetail> wanted;
    for (const std::string& image : images_) {
      wanted.push_back(FLUYT_TRY(client->inspect_image(image)).image());
    }
    if (images_.empty()) wanted.assign(listed.images().begin(), listed.images().end());
    bool first = true;
    for (const control::ImageDetail& detail : wanted) {
      TreeImage tree{.name = name_of(detail.image()),
                     .id = detail.image().id(),
                     .disk_bytes = detail.disk_bytes(),
                     .shared_bytes = detail.shared_bytes(),
                     .unique_bytes = detail.unique_bytes()};
      for (const control::ImageLayer& layer : detail.layers()) {
        tree.layers.push_back({.diff_id = layer.diff_id(),
                               .disk_bytes = layer.disk_bytes(),
                               .blob_bytes = layer.blob_bytes(),
                               .blob_kept = layer.blob_kept(),
                               .images = named(layer.images(), image_names),
                               .containers = named(layer.containers(), container_names)});
      }
      print(cat(first ? "" : "\n", draw_tree(tree)));
      first = false;
    }
    return 0;
  }

 private:
  std::vector<std::string> images_;
};

}  // namespace

CommandInfo image_tree_command() {
  return {.name = "image tree",
          .arguments = "[IMAGE...]",
          .summary = "Draw an image's layers and who shares them",
          .details =
              "The lowest layer comes first, with what its tree takes on the disk and, where it is "
              "kept,\n"
              "its blob. Without IMAGE, every image is drawn.\n\n"
              "Examples:\n"
              "  fluyt image tree app:1.2",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<ImageTree>()); }};
}

}  // namespace fluyt::cli
