#include "base/strings.h"
#include "base/time.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/text/escape.h"

namespace fluyt::cli {

namespace {

constexpr size_t kKeyColumns = 15;

void line(std::string_view key, std::string_view value) {
  print(cat(key, std::string(kKeyColumns - key.size(), ' '), printable(value), "\n"));
}

std::string ready(const cri::RuntimeCondition& condition) {
  if (condition.status())
    return condition.message().empty() ? "ready" : cat("ready; ", condition.message());
  return cat("not ready: ", condition.message().empty() ? condition.reason() : condition.message());
}

// The one without a name is the default, which is listed under its own name too.
std::string handlers(const cri::StatusResponse& status) {
  std::string out;
  for (const cri::RuntimeHandler& handler : status.runtime_handlers()) {
    if (!handler.name().empty()) out += cat(out.empty() ? "" : ", ", handler.name());
  }
  return out;
}

class Info final : public Command {
 public:
  void declare(Options& options) override {
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    const auto info = FLUYT_TRY(client->info());
    if (*format == Format::kJson) {
      print(to_json(info) + "\n");
      return 0;
    }
    const auto status = FLUYT_TRY(client->status());
    const auto containers = FLUYT_TRY(client->list_containers());
    const auto sandboxes = FLUYT_TRY(client->list_sandboxes());
    const auto images = FLUYT_TRY(client->list_images());
    int running = 0;
    for (const cri::Container& c : containers.containers()) {
      running += c.state() == cri::CONTAINER_RUNNING ? 1 : 0;
    }
    line("fluytd", cat(info.version(), ", pid ", info.pid(), ", at ", context.socket));
    for (const cri::RuntimeCondition& condition : status.status().conditions()) {
      if (condition.type() == "RuntimeReady") line("Runtime", ready(condition));
      if (condition.type() == "NetworkReady") line("Network", ready(condition));
    }
    line("Handlers", handlers(status));
    line("Containers", cat(containers.containers_size(), ", ", running, " running"));
    line("Pods", cat(sandboxes.items_size()));
    line("Images", cat(images.images_size()));
    line("Root", info.root());
    line("State", info.state());
    line("Logs", info.logs());
    line("Cgroup", info.default_cgroup_parent());
    line("Kernel", info.kernel());
    line("Log level", info.log_level());
    if (info.config_files().empty()) line("Configuration", "no file, defaults and flags");
    for (const std::string& file : info.config_files()) line("Configuration", file);
    if (info.config_loaded_at() != 0) {
      line("", cat("read ", human_duration(now_unix_ns() - info.config_loaded_at()), " ago"));
    }
    if (!info.config_refused().empty()) {
      line("Warning", cat("the last reload changed nothing: ", info.config_refused()));
    }
    for (const std::string& warning : info.warnings()) line("Warning", warning);
    return 0;
  }

 private:
  std::string format_ = "table";
};

}  // namespace

CommandInfo info_command() {
  return {.name = "info",
          .arguments = "[OPTIONS]",
          .summary = "Show how fluytd is doing and where it keeps things",
          .details = "",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Info>()); }};
}

}  // namespace fluyt::cli
