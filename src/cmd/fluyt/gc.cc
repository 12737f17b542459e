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

using control::GarbageItem;

constexpr int kMaxHolders = 3;  // that are named

const char* word_of(GarbageItem::Kind kind) {
  switch (kind) {
    case GarbageItem::LAYER:
      return "layer";
    case GarbageItem::BLOB:
      return "blob";
    case GarbageItem::FIXUP:
      return "fix-up";
    case GarbageItem::ROOT:
      return "root";
    case GarbageItem::UNFINISHED:
      return "unfinished";
    case GarbageItem::TRASH:
      return "trash";
    case GarbageItem::CATALOG:
      return "catalogue";
    default:
      return "unknown";
  }
}

// "container c1, app:1 and 4 more"
std::string holders_of(const GarbageItem& item) {
  std::vector<std::string> names;
  for (const std::string& holder : item.holders()) {
    if (names.size() == kMaxHolders) break;
    names.push_back(holder.starts_with("sha256:") ? short_id(holder) : holder);
  }
  std::string out = join(names, ", ");
  if (item.holders_size() > kMaxHolders) {
    out += cat(" and ", item.holders_size() - kMaxHolders, " more");
  }
  return out;
}

class Gc final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("--dry-run", dry_, "remove nothing; say what would go and what stays, and why");
    options.flag("-q,--quiet", quiet_, "print the bytes alone");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    const auto report = FLUYT_TRY(client->collect_garbage(!dry_));
    if (*format == Format::kJson) {
      print(to_json(report) + "\n");
      return 0;
    }
    if (quiet_) {
      print(cat(report.going_bytes(), "\n"));
      return 0;
    }
    std::vector<const GarbageItem*> items;
    for (const GarbageItem& item : report.items()) {
      if (item.goes() || dry_) items.push_back(&item);
    }
    std::stable_sort(items.begin(), items.end(), [](const GarbageItem* a, const GarbageItem* b) {
      return std::pair(b->goes(), b->bytes()) < std::pair(a->goes(), a->bytes());
    });
    if (!items.empty()) print(table_of(items));
    const auto going = std::count_if(report.items().begin(), report.items().end(),
                                     [](const GarbageItem& item) { return item.goes(); });
    print(cat(dry_ ? "Would remove " : "Removed ", going, going == 1 ? " thing, " : " things, ",
              human_size(report.going_bytes()), " in ", report.going_inodes(), " files; ",
              human_size(report.staying_bytes()), dry_ ? " would stay.\n" : " stay.\n"));
    return 0;
  }

 private:
  std::string table_of(const std::vector<const GarbageItem*>& items) const {
    Table table({"WHAT", "NAME", "SIZE", "FILES", dry_ ? "GOES" : "GONE", "WHY"});
    for (const GarbageItem* item : items) {
      const std::string held = holders_of(*item);
      table.add({word_of(item->kind()),
                 item->name().starts_with("sha256:") ? short_id(item->name()) : item->name(),
                 human_size(item->bytes()), cat(item->inodes()), item->goes() ? "yes" : "no",
                 held.empty() ? item->reason() : cat("of ", held)});
    }
    return table.text();
  }

  std::string format_ = "table";
  bool dry_ = false;
  bool quiet_ = false;
};

}  // namespace

CommandInfo gc_command() {
  return {
      .name = "gc",
      .arguments = "[OPTIONS]",
      .summary = "Remove what no image and no container needs, or explain the disk",
      .details =
          "What an image, a container or a pull under way needs stays, and it waits for none of\n"
          "them. Images stay until they are removed (\"rmi\", \"image prune\").\n\n"
          "Examples:\n"
          "  fluyt gc --dry-run\n"
          "  fluyt gc",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Gc>()); }};
}

}  // namespace fluyt::cli
