#include <algorithm>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/table.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

// "host:5000/a/b:tag" in two; a colon before the last slash is a port's.
std::pair<std::string, std::string> split_tag(const std::string& name) {
  const size_t slash = name.rfind('/');
  const size_t colon = name.rfind(':');
  if (colon == std::string::npos || (slash != std::string::npos && colon < slash))
    return {name, ""};
  return {name.substr(0, colon), name.substr(colon + 1)};
}

class Images final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("-q,--quiet", quiet_, "print ids alone");
    options.flag("--digests", digests_, "show the digests that names had when they were pulled");
    options.flag("--no-trunc", whole_, "show ids in full");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    auto listed = FLUYT_TRY(client->list_images());
    std::sort(listed.mutable_images()->begin(), listed.mutable_images()->end(),
              [](const cri::Image& a, const cri::Image& b) { return name_of(a) < name_of(b); });
    if (*format == Format::kJson) {
      std::vector<const google::protobuf::Message*> messages;
      for (const cri::Image& image : listed.images()) messages.push_back(&image);
      print(to_json(messages) + "\n");
      return 0;
    }
    if (quiet_) {
      for (const cri::Image& image : listed.images()) print(shown_id(image) + "\n");
      return 0;
    }
    Table table(digests_ ? std::vector<std::string>{"REPOSITORY", "DIGEST", "ID", "SIZE"}
                         : std::vector<std::string>{"REPOSITORY", "TAG", "ID", "SIZE"});
    for (const cri::Image& image : listed.images()) add_rows(image, table);
    print(table.text());
    return 0;
  }

 private:
  static std::string name_of(const cri::Image& image) {
    return image.repo_tags().empty() ? "" : image.repo_tags(0);
  }
  std::string shown_id(const cri::Image& image) const {
    return printable(whole_ ? image.id() : short_id(image.id()));
  }

  void add_rows(const cri::Image& image, Table& table) const {
    const std::string id = shown_id(image);
    const std::string size = human_size(image.size());
    if (digests_) {
      for (const std::string& name : image.repo_digests()) {
        const size_t at = name.find('@');
        table.add(
            {name.substr(0, at), at == std::string::npos ? "" : name.substr(at + 1), id, size});
      }
      if (image.repo_digests().empty()) table.add({name_of(image), "<none>", id, size});
      return;
    }
    for (const std::string& name : image.repo_tags()) {
      const auto [repository, tag] = split_tag(name);
      table.add({repository, tag, id, size});
    }
    if (!image.repo_tags().empty()) return;
    const std::string digest = image.repo_digests().empty() ? "<none>" : image.repo_digests(0);
    table.add({digest.substr(0, digest.find('@')), "<none>", id, size});
  }

  std::string format_ = "table";
  bool quiet_ = false;
  bool digests_ = false;
  bool whole_ = false;
};

}  // namespace

CommandInfo images_command() {
  return {.name = "images",
          .arguments = "[OPTIONS]",
          .summary = "List images",
          .details =
              "Examples:\n"
              "  fluyt images\n"
              "  fluyt images --format json",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Images>()); }};
}

}  // namespace fluyt::cli
