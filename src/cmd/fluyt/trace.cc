#include <algorithm>
#include <array>
#include <cstdio>

#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

using Walk = control::TraceResponse::Walk;

constexpr size_t kNameWidth = 28;

std::string milliseconds(int64_t ns) {
  std::array<char, 32> text;
  (void)std::snprintf(text.data(), text.size(), "%9.1f ms", static_cast<double>(ns) / 1e6);
  return text.data();
}

std::string padded(std::string text) {
  text.resize(std::max(text.size(), kNameWidth), ' ');
  return text;
}

// "    network                2.1 ms   from 3.4 ms"; and what no part accounts for.
std::string text_of(const Walk& walk) {
  std::string out = cat(padded(printable(walk.verb())), milliseconds(walk.took_ns()), "   ",
                        format_rfc3339_nano(walk.began_unix_ns()).substr(0, 23), "Z");
  if (!walk.container_id().empty()) out += cat("  container ", short_id(walk.container_id()));
  out += '\n';
  int64_t known = 0;
  for (const auto& part : walk.parts()) {
    const std::string indent(2 * static_cast<size_t>(std::clamp(part.depth() + 1, 1, 8)), ' ');
    out += cat(padded(indent + printable(part.name())), milliseconds(part.took_ns()), "   from",
               milliseconds(part.begin_ns()), "\n");
    if (part.depth() == 0) known += part.took_ns();
  }
  if (!walk.parts().empty())
    out += cat(padded("  (the rest)"), milliseconds(walk.took_ns() - known), "\n");
  if (!walk.error().empty()) out += cat("  failed: ", printable(walk.error()), "\n");
  return out;
}

// A pod or a container by what a person calls it; one that is gone by its whole id.
Result<std::string> id_of(Client& client, const std::string& reference) {
  auto sandbox = find_sandbox(client, reference);
  if (sandbox.ok()) return sandbox->id();
  if (sandbox.error().code() != Code::kNotFound) return std::move(sandbox).error();
  auto container = find_container(client, reference);
  if (container.ok()) return container->id();
  if (container.error().code() != Code::kNotFound) return std::move(container).error();
  return reference;
}

class Trace final : public Command {
 public:
  void declare(Options& options) override {
    options.positional("POD|CONTAINER", reference_, Options::Need::kRequired);
    options.value("--format", format_, "FORMAT", "text or json");
  }

  Result<int> run(Context& context) override {
    if (format_ != "text" && format_ != "json") {
      return context.usage(cat("--format: ", quote(format_), ": expected text or json"));
    }
    Client* client = FLUYT_TRY(context.client());
    const auto traced = FLUYT_TRY(client->trace(FLUYT_TRY(id_of(*client, reference_))));
    if (format_ == "json") {
      std::vector<const google::protobuf::Message*> messages;
      for (const Walk& walk : traced.walks()) messages.push_back(&walk);
      print(to_json(messages) + "\n");
      return 0;
    }
    if (traced.walks().empty()) print("nothing was asked of it since fluytd started\n");
    for (const Walk& walk : traced.walks()) print(text_of(walk));
    return 0;
  }

 private:
  std::string reference_;
  std::string format_ = "text";
};

}  // namespace

CommandInfo trace_command() {
  return {
      .name = "trace",
      .arguments = "[OPTIONS] POD|CONTAINER",
      .summary = "Show where the time of a pod's last requests went",
      .details =
          "Each request with its parts and when they began. fluytd keeps the last four of each\n"
          "kind, also of pods that are gone (by their whole id), until it is started again.\n\n"
          "Examples:\n"
          "  fluyt trace web\n"
          "  fluyt trace --format json 4f2a",
      .make = [] { return std::unique_ptr<Command>(std::make_unique<Trace>()); }};
}

}  // namespace fluyt::cli
