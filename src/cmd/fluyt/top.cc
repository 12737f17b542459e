#include "cmd/fluyt/text/top.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "base/strings.h"
#include "cmd/fluyt/client.h"
#include "cmd/fluyt/command.h"
#include "cmd/fluyt/output.h"
#include "cmd/fluyt/terminal.h"
#include "cmd/fluyt/text/units.h"

namespace fluyt::cli {

namespace {

// What a screen is begun with: the cursor to its corner, and everything below it cleared.
constexpr std::string_view kNewScreen = "\x1b[H\x1b[J";
// Besides the rows: the sums, an empty line, the headings, and the line that the cursor is on.
constexpr size_t kOtherLines = 4;

double cpu_percent(const cri::CpuUsage& before, const cri::CpuUsage& now) {
  if (!now.has_usage_core_nano_seconds()) return -1;
  const double used =
      rate(before.usage_core_nano_seconds().value(), now.usage_core_nano_seconds().value(),
           now.timestamp() - before.timestamp());
  return used < 0 ? -1 : used / 1e7;  // nanoseconds a second, as a share of one processor
}

int64_t memory_of(const cri::MemoryUsage& usage) {
  if (!usage.has_working_set_bytes()) return -1;
  return static_cast<int64_t>(usage.working_set_bytes().value());
}

TopRow row_of(const cri::PodSandboxStats& before, const cri::PodSandboxStats& now) {
  TopRow row{.name = now.attributes().metadata().name(),
             .space = now.attributes().metadata().namespace_(),
             .cpu_percent = cpu_percent(before.linux().cpu(), now.linux().cpu()),
             .memory_bytes = memory_of(now.linux().memory())};
  const auto& device = now.linux().network().default_interface();
  const auto& earlier = before.linux().network().default_interface();
  const int64_t elapsed = now.linux().network().timestamp() - before.linux().network().timestamp();
  if (device.has_rx_bytes())
    row.received = rate(earlier.rx_bytes().value(), device.rx_bytes().value(), elapsed);
  if (device.has_tx_bytes())
    row.sent = rate(earlier.tx_bytes().value(), device.tx_bytes().value(), elapsed);
  if (now.linux().process().has_process_count())
    row.processes = static_cast<int64_t>(now.linux().process().process_count().value());
  return row;
}

std::vector<TopRow> rows_of(const cri::ListPodSandboxStatsResponse& before,
                            const cri::ListPodSandboxStatsResponse& now, bool of_pods) {
  std::map<std::string, const cri::PodSandboxStats*> pods;
  std::map<std::string, const cri::ContainerStats*> containers;
  for (const auto& pod : before.stats()) {
    pods[pod.attributes().id()] = &pod;
    for (const auto& container : pod.linux().containers())
      containers[container.attributes().id()] = &container;
  }
  std::vector<TopRow> rows;
  for (const auto& pod : now.stats()) {
    const auto earlier = pods.find(pod.attributes().id());
    if (of_pods) {
      rows.push_back(row_of(earlier == pods.end() ? pod : *earlier->second, pod));
      continue;
    }
    for (const auto& container : pod.linux().containers()) {
      const auto known = containers.find(container.attributes().id());
      const auto& first = known == containers.end() ? container : *known->second;
      rows.push_back({.name = container.attributes().metadata().name(),
                      .space = pod.attributes().metadata().name(),
                      .cpu_percent = cpu_percent(first.cpu(), container.cpu()),
                      .memory_bytes = memory_of(container.memory())});
    }
  }
  return rows;
}

class Top final : public Command {
 public:
  void declare(Options& options) override {
    options.flag("-c,--containers", containers_, "a line a container, not a pod");
    options.value("-s,--sort", sort_, "BY", "cpu, memory, network or name");
    options.value("-i,--interval", interval_, "DURATION", "between two screens, such as 2s");
    options.value("-n,--times", times_, "COUNT",
                  "how many screens; for ever on a terminal, else 1");
  }

  Result<int> run(Context& context) override {
    const auto order = parse_top_order(sort_);
    if (!order.ok()) return context.usage(order.error().message());
    const auto interval = parse_duration(interval_);
    if (!interval.ok()) return context.usage(cat("--interval: ", interval.error().message()));
    const bool terminal = is_terminal(Stream::kOut);
    uint64_t times = terminal ? 0 : 1;
    if (!times_.empty()) {
      const auto count = parse_number<uint64_t>(times_);
      if (!count || *count == 0)
        return context.usage(cat("--times: ", quote(times_), ": expected a number from 1"));
      times = *count;
    }
    Client* client = FLUYT_TRY(context.client());
    auto before = FLUYT_TRY(client->list_pod_stats());
    for (uint64_t i = 0; times == 0 || i < times; ++i) {
      std::this_thread::sleep_for(std::chrono::nanoseconds(*interval));
      auto now = FLUYT_TRY(client->list_pod_stats());
      const size_t height = terminal_size(Stream::kOut).height;
      const size_t most = terminal && height > kOtherLines ? height - kOtherLines : 0;
      std::string text = top_text(rows_of(before, now, !containers_), *order, most, !containers_);
      if (terminal) text.insert(0, kNewScreen);
      if (!write_out(Stream::kOut, text)) return 0;
      before = std::move(now);
    }
    return 0;
  }

 private:
  bool containers_ = false;
  std::string sort_ = "cpu";
  std::string interval_ = "2s";
  std::string times_;
};

}  // namespace

CommandInfo top_command() {
  return {.name = "top",
          .arguments = "[OPTIONS]",
          .summary = "Show what pods use, again and again",
          .details =
              "CPU is over the interval, 100% being one processor; MEMORY is the working set;\n"
              "RECEIVED and SENT are of the pod's first network device. Ctrl-C ends it.\n\n"
              "Examples:\n"
              "  fluyt top\n"
              "  fluyt top --containers --sort memory\n"
              "  fluyt top -n 1 -i 5s",
          .make = [] { return std::unique_ptr<Command>(std::make_unique<Top>()); }};
}

}  // namespace fluyt::cli
