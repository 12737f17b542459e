#include <array>
#include <chrono>
#include <cstdio>
#include <map>
#include <thread>

#include "base/strings.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/resolve.h"
#include "cmd/fluyt/text/escape.h"
#include "cmd/fluyt/text/table.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

// Between the two readings that a rate takes.
constexpr auto kInterval = std::chrono::milliseconds(500);

std::string percent(const cri::CpuUsage& before, const cri::CpuUsage& now) {
  const int64_t wall = now.timestamp() - before.timestamp();
  const uint64_t used =
      now.usage_core_nano_seconds().value() - before.usage_core_nano_seconds().value();
  if (!now.has_usage_core_nano_seconds() || wall <= 0 ||
      now.usage_core_nano_seconds().value() < before.usage_core_nano_seconds().value()) {
    return "-";
  }
  std::array<char, 32> text;
  (void)std::snprintf(text.data(), text.size(), "%.1f%%",
                      100.0 * static_cast<double>(used) / static_cast<double>(wall));
  return text.data();
}

std::string memory(const cri::MemoryUsage& usage) {
  return usage.has_working_set_bytes() ? human_memory(usage.working_set_bytes().value()) : "-";
}

// CRI gives what is left of the limit, 0 when there is none.
std::string limit(const cri::MemoryUsage& usage) {
  const uint64_t left = usage.available_bytes().value();
  return left == 0 ? "-" : human_memory(left + usage.working_set_bytes().value());
}

class Stats final : public Command {
 public:
  void declare(Options& options) override {
    options.positionals("CONTAINER", references_, Options::Need::kOptional);
    options.value("--format", format_, "FORMAT", "table or json");
  }

  Result<int> run(Context& context) override {
    const auto format = parse_format(format_);
    if (!format.ok()) return context.usage(format.error().message());
    Client* client = FLUYT_TRY(context.client());
    std::map<std::string, bool> wanted;
    for (const std::string& reference : references_) {
      wanted[FLUYT_TRY(find_container(*client, reference)).id()] = true;
    }
    const auto before = FLUYT_TRY(client->list_stats());
    if (*format == Format::kJson) {
      std::vector<const google::protobuf::Message*> messages;
      for (const cri::ContainerStats& stats : before.stats()) {
        if (wanted.empty() || wanted.contains(stats.attributes().id())) messages.push_back(&stats);
      }
      print(to_json(messages) + "\n");
      return 0;
    }
    std::map<std::string, cri::CpuUsage> cpu_before;
    for (const cri::ContainerStats& stats : before.stats()) {
      cpu_before[stats.attributes().id()] = stats.cpu();
    }
    if (!cpu_before.empty()) std::this_thread::sleep_for(kInterval);
    const auto now = FLUYT_TRY(client->list_stats());
    Table table({"NAME", "ID", "CPU", "MEMORY", "LIMIT", "DISK"});
    for (const cri::ContainerStats& stats : now.stats()) {
      const std::string& id = stats.attributes().id();
      if (!wanted.empty() && !wanted.contains(id)) continue;
      const auto cpu = cpu_before.find(id);
      table.add({stats.attributes().metadata().name(), short_id(id),
                 cpu == cpu_before.end() ? "-" : percent(cpu->second, stats.cpu()),
                 memory(stats.memory()), limit(stats.memory()),
                 stats.writable_layer().has_used_bytes()
                     ? human_size(stats.writable_layer().used_bytes().value())
                     : "-"});
    }
    print(table.text());
    return 0;
  }

 private:
  std::vector<std::string> references_;
  std::string format_ = "table";
};

}  // namespace

CommandInfo stats_command() {
  return {.name = "stats",
          .arguments = "[OPTIONS] [CONTAINER...]",
          .summary = "Show what containers use",
          .details =
              "CPU is over half a second, 100% being one processor; MEMORY is the working set; "
              "DISK is\n"
              "what the container wrote into its root.\n\n"
              "Examples:\n"
              "  fluyt stats\n"
              "  fluyt stats web worker",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Stats>()); }};
}

}  // namespace fluyt::cli
