#include <cstdio>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

std::string_view words(control::Event::Kind kind) {
  switch (kind) {
    case control::Event::SANDBOX_READY:
      return "pod ready";
    case control::Event::SANDBOX_STOPPED:
      return "pod stopped";
    case control::Event::SANDBOX_REMOVED:
      return "pod removed";
    case control::Event::CONTAINER_CREATED:
      return "container created";
    case control::Event::CONTAINER_STARTED:
      return "container started";
    case control::Event::CONTAINER_STOPPED:
      return "container stopped";
    case control::Event::CONTAINER_REMOVED:
      return "container removed";
    case control::Event::IMAGE_PULLED:
      return "image pulled";
    case control::Event::IMAGE_REMOVED:
      return "image removed";
    default:
      return "event";
  }
}

std::string text_of(const control::Event& event) {
  std::string text =
      cat(format_rfc3339_nano(event.time()), "  ", words(event.kind()),
          std::string(20 - words(event.kind()).size(), ' '), printable(short_id(event.id())));
  if (!event.name().empty()) text += cat("  ", printable(event.name()));
  if (event.kind() == control::Event::CONTAINER_STOPPED) {
    text += cat("  exit=", event.exit_code());
    if (!event.reason().empty()) text += cat("  reason=", printable(event.reason()));
  }
  return text;
}

// One event a line, so that a program can read it as it comes.
std::string json_line(const control::Event& event) {
  const std::string lines = to_json(event);
  std::string out;
  for (const std::string_view piece : split(lines, '\n')) out += trim(piece);
  return out;
}

class Events final : public Command {
 public:
  void declare(Options& options) override {
    options.value("--format", format_, "FORMAT", "table, or json: one object a line");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    FLUYT_TRY(client->events([&](const control::Event& event) {
      if (event.kind() == control::Event::SUBSCRIBED) return true;
      print((*format == Format::kJson ? json_line(event) : text_of(event)) + "\n");
      return std::fflush(stdout) == 0;
    }));
    return 0;
  }

 private:
  std::string format_ = "table";
};

}  // namespace

CommandInfo events_command() {
  return {.name = "events",
          .arguments = "[OPTIONS]",
          .summary = "Show what happens, as it happens",
          .details =
              "Until it is interrupted.\n\n"
              "Examples:\n"
              "  fluyt events\n"
              "  fluyt events --format json | jq -c '{kind, name}'",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Events>()); }};
}

}  // namespace fluyt::cli
