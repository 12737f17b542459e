#include "metrics_page.h"

#include <array>
#include <map>

#include "cmd/fluytd/metrics/exposition.h"
#include "cmd/fluytd/metrics/process.h"

namespace fluyt::daemon {
namespace {

using Type = Exposition::Type;

constexpr std::array<const char*, Calls::kCodes> kCodeNames = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

void write_rpcs(const CallTable& table, Exposition& page) {
  const auto all = table.all();
  page.family("fluyt_rpc_duration_seconds", Type::kHistogram,
              "How long calls of the CRI and of fluyt.v1 took, until their last answer.");
  for (const auto& [key, calls] : all) {
    page.sample({{"service", key.first}, {"method", key.second}}, calls->took.values());
  }
  page.family("fluyt_rpcs_total", Type::kCounter, "Calls that have ended, by their gRPC code.");
  for (const auto& [key, calls] : all) {
    for (size_t code = 0; code < Calls::kCodes; ++code) {
      const uint64_t count = calls->ended[code];
      if (count == 0 && code != 0) continue;
      page.sample({{"service", key.first}, {"method", key.second}, {"code", kCodeNames[code]}},
                  count);
    }
  }
  page.family("fluyt_rpcs_running", Type::kGauge, "Calls under way.");
  for (const auto& [key, calls] : all) {
    page.sample({{"service", key.first}, {"method", key.second}},
                static_cast<double>(calls->running));
  }
}

/// Pulls by the kubelet and by people alike.
void write_pulls(const CallTable& table, Exposition& page) {
  uint64_t good = 0;
  uint64_t failed = 0;
  for (const auto& [key, calls] : table.all()) {
    if (key.second != "PullImage" && key.second != "Pull") continue;
    for (size_t code = 0; code < Calls::kCodes; ++code) {
      (code == 0 ? good : failed) += calls->ended[code];
    }
  }
  page.family("fluyt_image_pulls_total", Type::kCounter, "Pulls that have ended.");
  page.sample({{"result", "ok"}}, good);
  page.sample({{"result", "error"}}, failed);
}

void write_network(const CallTable& table, Exposition& page) {
  const auto all = table.all();
  page.family("fluyt_network_duration_seconds", Type::kHistogram,
              "How long CNI took for a pod, all plugins together.");
  for (const auto& [key, calls] : all) {
    page.sample({{"operation", key.second}}, calls->took.values());
  }
  page.family("fluyt_network_failures_total", Type::kCounter, "CNI operations that failed.");
  for (const auto& [key, calls] : all) {
    uint64_t failed = 0;
    for (size_t code = 1; code < Calls::kCodes; ++code) failed += calls->ended[code];
    page.sample({{"operation", key.second}}, failed);
  }
}

void write_pods(engine::Engine& engine, Exposition& page) {
  using engine::ContainerState;
  using engine::SandboxState;
  std::map<SandboxState, uint64_t> sandboxes = {
      {SandboxState::kCreating, 0}, {SandboxState::kReady, 0}, {SandboxState::kNotReady, 0}};
  for (const auto& sandbox : engine.list_sandboxes({})) ++sandboxes[sandbox->state];
  page.family("fluyt_sandboxes", Type::kGauge, "Pod sandboxes by state.");
  for (const auto& [state, count] : sandboxes) {
    page.sample({{"state", std::string(name_of(state))}}, count);
  }
  std::map<ContainerState, uint64_t> containers = {{ContainerState::kCreating, 0},
                                                   {ContainerState::kCreated, 0},
                                                   {ContainerState::kRunning, 0},
                                                   {ContainerState::kExited, 0}};
  for (const auto& container : engine.list_containers({})) ++containers[container->state];
  page.family("fluyt_containers", Type::kGauge, "Containers by state.");
  for (const auto& [state, count] : containers) {
    page.sample({{"state", std::string(name_of(state))}}, count);
  }
  page.family("fluyt_monitors", Type::kGauge, "Monitors that fluytd is connected to.");
  page.sample({}, uint64_t{engine.count_monitors()});
  page.family("fluyt_container_log_dropped_bytes_total", Type::kCounter,
              "Output of containers that have ended that could not be written to their logs.");
  page.sample({}, engine.count_dropped_log_bytes());
}

void write_images(engine::Engine& engine, Exposition& page) {
  if (const auto images = engine.list_images(); images.ok()) {
    page.family("fluyt_images", Type::kGauge, "Images in the store.");
    page.sample({}, uint64_t{images->size()});
  }
  const auto usage = engine.image_fs_usage();
  if (!usage.ok()) return;
  page.family("fluyt_image_store_bytes", Type::kGauge, "What images take on the disk.");
  page.sample({}, usage->used_bytes);
  page.family("fluyt_image_store_inodes", Type::kGauge, "Inodes that images take.");
  page.sample({}, usage->inodes);
}

void write_daemon(const MetricsSources& sources, Exposition& page) {
  page.family("fluyt_build_info", Type::kGauge, "The version that runs, as a label.");
  page.sample({{"version", FLUYT_VERSION}}, uint64_t{1});
  const auto config = sources.daemon.config();
  page.family("fluyt_config_loaded_timestamp_seconds", Type::kGauge,
              "When the configuration in force was read.");
  page.sample({}, static_cast<double>(config.loaded_at) / 1e9);
  page.family("fluyt_config_last_reload_successful", Type::kGauge,
              "1, or 0 when the last reload was refused and changed nothing.");
  page.sample({}, uint64_t{config.refused.empty() ? 1U : 0U});
  page.family("fluyt_log_lines_lost_total", Type::kCounter,
              "Lines of fluytd's own log that could not be written.");
  page.sample({}, sources.log.lost());
}

void write_tracing(const SpanCounts& counts, Exposition& page) {
  page.family("fluyt_tracing_spans_total", Type::kCounter,
              "Spans that a collector took, refused, or that were dropped before.");
  page.sample({{"result", "sent"}}, uint64_t{counts.sent});
  page.sample({{"result", "refused"}}, uint64_t{counts.refused});
  page.sample({{"result", "dropped"}}, uint64_t{counts.dropped});
}

/// Under the names that Prometheus' clients have for every process.
void write_process(Exposition& page) {
  const auto usage = own_usage();
  if (!usage.ok()) return;
  page.family("process_cpu_seconds_total", Type::kCounter, "Processor time of fluytd.");
  page.sample({}, usage->cpu_seconds);
  page.family("process_resident_memory_bytes", Type::kGauge, "Resident memory of fluytd.");
  page.sample({}, usage->resident_bytes);
  page.family("process_virtual_memory_bytes", Type::kGauge, "Virtual memory of fluytd.");
  page.sample({}, usage->virtual_bytes);
  page.family("process_open_fds", Type::kGauge, "Open descriptors of fluytd.");
  page.sample({}, usage->open_fds);
  page.family("process_max_fds", Type::kGauge, "The most that it may have open.");
  page.sample({}, usage->max_fds);
  page.family("process_threads", Type::kGauge, "Threads of fluytd.");
  page.sample({}, usage->threads);
  page.family("process_start_time_seconds", Type::kGauge, "When fluytd was started.");
  page.sample({}, usage->started_at);
}

}  // namespace

std::string metrics_page(const MetricsSources& sources) {
  Exposition page;
  write_daemon(sources, page);
  write_pods(sources.engine, page);
  write_images(sources.engine, page);
  write_pulls(sources.rpcs, page);
  write_network(sources.network, page);
  write_rpcs(sources.rpcs, page);
  write_tracing(sources.tracing.counts(), page);
  write_process(page);
  return page.take();
}

}  // namespace fluyt::daemon
