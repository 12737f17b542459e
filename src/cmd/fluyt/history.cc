#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/table.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kCreatedByColumns = 45;

struct Step {
  std::string layer;  // diff id; empty when the step made none
  std::string created;
  std::string created_by;
  std::string comment;
  uint64_t bytes = 0;
};

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// The config's history beside the layers that are here. Who made the image wrote it: where it does
// not fit the layers, these are shown without it.
std::vector<Step> steps_of(const control::InspectImageResponse& response) {
  const auto& layers = response.image().layers();
  const Json config = Json::parse(response.config(), nullptr, false);
  std::vector<Step> out;
  int next = 0;
  if (config.is_object() && config.contains("history") && config["history"].is_array()) {
    for (const Json& entry : config["history"]) {
      if (!entry.is_object()) continue;
      Step step{.created = text_of(entry, "created"),
                .created_by = text_of(entry, "created_by"),
                .comment = text_of(entry, "comment")};
      const auto empty = entry.find("empty_layer");
      const bool is_empty = empty != entry.end() && empty->is_boolean() && empty->get<bool>();
      if (!is_empty && next < layers.size()) {
        step.layer = layers[next].diff_id();
        step.bytes = layers[next].disk_bytes();
        ++next;
      } else if (!is_empty) {
        next = layers.size() + 1;
      }
      out.push_back(std::move(step));
    }
  }
  if (next != layers.size()) {
    out.clear();
    for (const auto& layer : layers) {
      out.push_back({.layer = layer.diff_id(), .bytes = layer.disk_bytes()});
    }
  }
  std::reverse(out.begin(), out.end());
  return out;
}

class History final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("IMAGE", image_, Options::Need::kRequired);
    options.flag("--no-trunc", whole_, "show everything in full");
    options.flag("-q,--quiet", quiet_, "print the ids of layers alone");
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    const auto steps = steps_of(FLUYT_TRY(client->inspect_image(image_)));
    if (*format == Format::kJson) {
      Json list = Json::array();
      for (const Step& step : steps) {
        list.push_back({{"layer", step.layer},
                        {"created", step.created},
                        {"createdBy", step.created_by},
                        {"size", step.bytes},
                        {"comment", step.comment}});
      }
      print(list.dump(2, ' ', true, Json::error_handler_t::replace) + "\n");
      return 0;
    }
    Table table({"LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT"});
    for (const Step& step : steps) {
      const std::string layer = whole_ ? step.layer : short_id(step.layer);
      if (quiet_) {
        print((layer.empty() ? "<none>" : printable(layer)) + "\n");
        continue;
      }
      const auto created = parse_rfc3339(step.created);
      const std::string by = printable(step.created_by);
      const std::string comment = printable(step.comment);
      table.add({layer.empty() ? "<none>" : layer,
                 created.ok() ? ago(*created, now_unix_ns()) : "N/A",
                 whole_ ? by : fit(by, kCreatedByColumns), human_size(step.bytes),
                 whole_ ? comment : fit(comment, kCreatedByColumns)});
    }
    if (!quiet_) print(table.text());
    return 0;
  }

 private:
  std::string image_;
  std::string format_ = "table";
  bool whole_ = false;
  bool quiet_ = false;
};

}  // namespace

CommandInfo history_command() {
  return {.name = "history",
          .arguments = "[OPTIONS] IMAGE",
          .summary = "Show how an image was made, the last step first",
          .details =
              "SIZE is what a step's layer takes on the disk.\n\n"
              "Examples:\n"
              "  fluyt history busybox\n"
              "  fluyt history --no-trunc app:1.2",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<History>()); }};
}

}  // namespace fluyt::cli
