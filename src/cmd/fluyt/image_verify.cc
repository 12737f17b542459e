#include <algorithm>
#include <map>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/pull_view.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

class ImageVerify final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("IMAGE", images_, Options::Need::kOptional);
    options.flag("-a,--all", all_, "every image");
    options.flag("--repair", repair_, "unpack or fetch again what is damaged");
    options.flag("-q,--quiet", quiet_, "show no progress");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    if (images_.empty() != all_) {
      return context.usage("name images, or give --all");
    }
    control::VerifyImagesRequest request;
    for (const std::string& image : images_) request.add_images(image);
    request.set_repair(repair_);
    Client* client = FLUYT_TRY(context.client());
    LayerView view(Verb::kVerify, quiet_ ? Verbosity::kQuiet : Verbosity::kNormal);
    const auto report = FLUYT_TRY(client->verify_images(
        request,
        [&](const control::VerifyImagesResponse& response) { view.update(response.layers()); }));
    if (*format == Format::kJson) {
      print(to_json(report) + "\n");
    } else {
      FLUYT_TRY(show(*client, report));
    }
    const bool whole = std::all_of(report.damages().begin(), report.damages().end(),
                                   [](const control::ImageDamage& damage) {
                                     return damage.outcome() == control::ImageDamage::REPAIRED;
                                   });
    return whole ? 0 : kExitFailed;
  }

 private:
  Result<> show(Client& client, const control::VerifyImagesResponse::Report& report) const {
    std::map<std::string, std::string> names;
    if (report.damages_size() > 0) {
      const auto listed = FLUYT_TRY(client.image_details());
      for (const auto& detail : listed.images()) {
        const control::Image& image = detail.image();
        names[image.id()] = image.repo_tags().empty() ? short_id(image.id()) : image.repo_tags(0);
      }
      const auto containers = FLUYT_TRY(client.list_containers());
      for (const auto& c : containers.containers()) names[c.id()] = c.metadata().name();
    }
    const auto named = [&](const auto& ids) {
      std::vector<std::string> out;
      for (const std::string& id : ids) {
        out.push_back(printable(names.contains(id) ? names[id] : short_id(id)));
      }
      return join(out, ", ");
    };
    for (const control::ImageDamage& damage : report.damages()) {
      const char* what = damage.kind() == control::ImageDamage::LAYER ? "layer " : "blob ";
      print(
          cat(what, printable(short_id(damage.digest())), ": ", printable(damage.finding()), "\n"));
      if (damage.images_size() > 0) print(cat("  of ", named(damage.images()), "\n"));
      if (damage.containers_size() > 0) {
        print(cat("  under container ", named(damage.containers()), "\n"));
      }
      if (damage.outcome() == control::ImageDamage::REPAIRED) {
        print(cat("  mended: ", printable(damage.note()), "\n"));
      } else if (damage.outcome() == control::ImageDamage::NOT_REPAIRED) {
        print(cat("  not mended: ", printable(damage.note()), "\n"));
      }
    }
    print(cat(report.images(), report.images() == 1 ? " image: " : " images: ", report.blobs(),
              report.blobs() == 1 ? " blob hashed, " : " blobs hashed, ", report.layers_compared(),
              report.layers_compared() == 1 ? " layer" : " layers", " compared, ",
              report.layers_counted(), " counted; ",
              report.damages_size() == 0 ? std::string("all is well")
                                         : cat(report.damages_size(), " damaged"),
              "\n"));
    return {};
  }

  std::vector<std::string> images_;
  std::string format_ = "table";
  bool all_ = false;
  bool repair_ = false;
  bool quiet_ = false;
};

}  // namespace

CommandInfo image_verify_command() {
  return {
      .name = "image verify",
      .arguments = "[OPTIONS] IMAGE...|--all",
      .summary = "Read images' blobs and layers again, and mend what is damaged",
      .details =
          "Blobs are hashed. A layer whose blob is kept is unpacked once more and compared entry "
          "by\n"
          "entry; of one whose blob is not, each file is held against the checksum of when it was\n"
          "unpacked. Only of layers from versions without checksums the files are just counted.\n"
          "With --repair what is damaged is unpacked again from its blob, or fetched. A layer "
          "that\n"
          "a container stands on is left alone and the container named. The exit status is 1 "
          "while\n"
          "something is damaged.\n\n"
          "Examples:\n"
          "  fluyt image verify --all\n"
          "  fluyt image verify --repair app:1.2",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<ImageVerify>()); }};
}

}  // namespace fluyt::cli
