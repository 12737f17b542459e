#include <algorithm>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/image_json.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/image_filter.h"
#include "cmd/fluyt/text/table.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

using control::ImageDetail;

// "host:5000/a/b:tag" in two; a colon before the last slash is a port's.
std::pair<std::string, std::string> split_tag(const std::string& name) {
  const size_t slash = name.rfind('/');
  const size_t colon = name.rfind(':');
  if (colon == std::string::npos || (slash != std::string::npos && colon < slash))
    return {name, ""};
  return {name.substr(0, colon), name.substr(colon + 1)};
}

FilteredImage filtered(const ImageDetail& detail) {
  const control::Image& image = detail.image();
  return {.tags = {image.repo_tags().begin(), image.repo_tags().end()},
          .digests = {image.repo_digests().begin(), image.repo_digests().end()},
          .labels = {detail.labels().begin(), detail.labels().end()},
          .created = detail.created()};
}

class Images final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("NAME", reference_, Options::Need::kOptional);
    options.flag("-q,--quiet", quiet_, "print ids alone");
    options.flag("--digests", digests_, "show the digests that names had when they were pulled");
    options.flag("--no-trunc", whole_, "show ids in full");
    options.values("-f,--filter", filters_, "KEY=VALUE",
                   "dangling, label, reference, before or since");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    ImageFilter filter;
    for (const std::string& text : filters_) {
      if (auto added = filter.add(text); !added.ok()) return context.usage(added.error().message());
    }
    if (!reference_.empty()) FLUYT_TRY(filter.add(cat("reference=", reference_)));
    Client* client = FLUYT_TRY(context.client());
    for (const std::string& name : filter.images_before()) {
      filter.resolve_before(FLUYT_TRY(client->inspect_image(name)).image().created());
    }
    for (const std::string& name : filter.images_since()) {
      filter.resolve_since(FLUYT_TRY(client->inspect_image(name)).image().created());
    }
    const auto listed = FLUYT_TRY(client->image_details());
    std::vector<const ImageDetail*> images;
    for (const ImageDetail& detail : listed.images()) {
      if (filter.matches(filtered(detail))) images.push_back(&detail);
    }
    std::sort(images.begin(), images.end(), [](const ImageDetail* a, const ImageDetail* b) {
      return std::pair(b->created(), name_of(*a)) < std::pair(a->created(), name_of(*b));
    });
    if (*format == Format::kJson) {
      print(image_list_json(images) + "\n");
      return 0;
    }
    if (quiet_) {
      for (const ImageDetail* image : images) print(shown_id(*image) + "\n");
      return 0;
    }
    std::vector<std::string> headings{"REPOSITORY", "TAG"};
    if (digests_) headings.emplace_back("DIGEST");
    for (const char* heading : {"ID", "CREATED", "SIZE", "SHARED", "UNIQUE"}) {
      headings.emplace_back(heading);
    }
    Table table(std::move(headings));
    for (const ImageDetail* image : images) add_rows(*image, table);
    print(table.text());
    return 0;
  }

 private:
  static std::string name_of(const ImageDetail& detail) {
    return detail.image().repo_tags().empty() ? "" : detail.image().repo_tags(0);
  }
  std::string shown_id(const ImageDetail& detail) const {
    return printable(whole_ ? detail.image().id() : short_id(detail.image().id()));
  }

  void add_row(const ImageDetail& detail, Table& table, const std::string& repository,
               const std::string& tag, const std::string& digest) const {
    std::vector<std::string> cells{repository, tag};
    if (digests_) cells.push_back(digest);
    const std::string created = ago(detail.created(), now_unix_ns());
    cells.insert(cells.end(), {shown_id(detail), created.empty() ? "N/A" : created,
                               human_size(detail.disk_bytes()), human_size(detail.shared_bytes()),
                               human_size(detail.unique_bytes())});
    table.add(std::move(cells));
  }

  // A row a tag; of a repository without one, a row with its digest.
  void add_rows(const ImageDetail& detail, Table& table) const {
    const control::Image& image = detail.image();
    std::vector<std::string> untold(image.repo_digests().begin(), image.repo_digests().end());
    for (const std::string& name : image.repo_tags()) {
      const auto [repository, tag] = split_tag(name);
      const std::string start = repository + "@";
      std::string digest = "<none>";
      for (const std::string& with_digest : image.repo_digests()) {
        if (!with_digest.starts_with(start)) continue;
        digest = with_digest.substr(start.size());
        std::erase(untold, with_digest);
      }
      add_row(detail, table, repository, tag, digest);
    }
    for (const std::string& name : untold) {
      const size_t at = name.find('@');
      if (!image.repo_tags().empty() && !digests_) continue;
      add_row(detail, table, name.substr(0, at), "<none>", name.substr(at + 1));
    }
    if (image.repo_tags().empty() && untold.empty()) {
      add_row(detail, table, "<none>", "<none>", "<none>");
    }
  }

  std::string reference_;
  std::vector<std::string> filters_;
  std::string format_ = "table";
  bool quiet_ = false;
  bool digests_ = false;
  bool whole_ = false;
};

}  // namespace

CommandInfo images_command() {
  return {
      .name = "images",
      .arguments = "[OPTIONS] [NAME]",
      .summary = "List images",
      .details =
          "SIZE is what an image takes on the disk, SHARED the part of it that other images have,\n"
          "too, and UNIQUE what would be free without it.\n\n"
          "Examples:\n"
          "  fluyt images\n"
          "  fluyt images busybox\n"
          "  fluyt images --filter dangling=true -q\n"
          "  fluyt images --format json",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Images>()); }};
}

}  // namespace fluyt::cli
