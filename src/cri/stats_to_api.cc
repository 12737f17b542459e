#include "cri/to_api.h"

namespace fluyt::cri {
namespace {

/// What is not known is not set, rather than 0.
template <class Field>
void set(const std::optional<uint64_t>& value, Field field) {
  if (value) field()->set_value(*value);
}

void fill_line(const engine::Pressure::Line& from, api::PsiData& to) {
  to.set_total(from.total_ns);
  to.set_avg10(from.avg10);
  to.set_avg60(from.avg60);
  to.set_avg300(from.avg300);
}

template <class Message>
void fill_pressure(const std::optional<engine::Pressure>& from, Message& to) {
  if (!from) return;
  fill_line(from->full, *to.mutable_psi()->mutable_full());
  fill_line(from->some, *to.mutable_psi()->mutable_some());
}

void fill_cpu(const engine::Usage& from, api::CpuUsage& to) {
  to.set_timestamp(from.timestamp);
  set(from.cpu_usage_ns, [&] { return to.mutable_usage_core_nano_seconds(); });
  set(from.cpu_nano_cores, [&] { return to.mutable_usage_nano_cores(); });
  fill_pressure(from.cpu_pressure, to);
}

void fill_memory(const engine::Usage& from, api::MemoryUsage& to) {
  to.set_timestamp(from.timestamp);
  set(from.memory_usage_bytes, [&] { return to.mutable_usage_bytes(); });
  set(from.memory_working_set_bytes, [&] { return to.mutable_working_set_bytes(); });
  set(from.memory_rss_bytes, [&] { return to.mutable_rss_bytes(); });
  set(from.page_faults, [&] { return to.mutable_page_faults(); });
  set(from.major_page_faults, [&] { return to.mutable_major_page_faults(); });
  if (from.memory_limit_bytes && from.memory_working_set_bytes) {
    const uint64_t limit = *from.memory_limit_bytes;
    const uint64_t used = *from.memory_working_set_bytes;
    to.mutable_available_bytes()->set_value(limit > used ? limit - used : 0);
  }
  fill_pressure(from.memory_pressure, to);
}

void fill_io(const engine::Usage& from, api::IoUsage& to) {
  to.set_timestamp(from.timestamp);
  fill_pressure(from.io_pressure, to);
}

void fill_swap(const engine::Usage& from, api::SwapUsage& to) {
  to.set_timestamp(from.timestamp);
  set(from.swap_usage_bytes, [&] { return to.mutable_swap_usage_bytes(); });
  set(from.swap_available_bytes, [&] { return to.mutable_swap_available_bytes(); });
}

void fill_interface(const engine::InterfaceUsage& from, api::NetworkInterfaceUsage& to) {
  to.set_name(from.name);
  to.mutable_rx_bytes()->set_value(from.rx_bytes);
  to.mutable_rx_errors()->set_value(from.rx_errors);
  to.mutable_tx_bytes()->set_value(from.tx_bytes);
  to.mutable_tx_errors()->set_value(from.tx_errors);
}

/// The default device apart from the others, as CRI says.
void fill_network(const engine::SandboxStats& stats, api::NetworkUsage& to) {
  to.set_timestamp(stats.network_timestamp);
  for (size_t i = 0; i < stats.interfaces.size(); ++i) {
    fill_interface(stats.interfaces[i],
                   i == 0 ? *to.mutable_default_interface() : *to.add_interfaces());
  }
}

template <class Config, class Message>
void fill_attributes(const std::string& id, const Config& config, Message& to) {
  to.set_id(id);
  fill(config.name, *to.mutable_metadata());
  for (const auto& [key, value] : config.labels) (*to.mutable_labels())[key] = value;
  for (const auto& [key, value] : config.annotations) (*to.mutable_annotations())[key] = value;
}

void fill_metrics(const std::vector<engine::Metric>& from,
                  google::protobuf::RepeatedPtrField<api::Metric>& to) {
  to.Reserve(static_cast<int>(from.size()));
  for (const engine::Metric& one : from) {
    // Without a time: CRI has that for what was read earlier than now.
    api::Metric& metric = *to.Add();
    metric.set_name(one.descriptor->name);
    metric.set_metric_type(one.descriptor->type == engine::MetricType::kCounter ? api::COUNTER
                                                                                : api::GAUGE);
    for (const std::string& value : one.label_values) metric.add_label_values(value);
    metric.mutable_value()->set_value(one.value);
  }
}

}  // namespace

void fill(const engine::DiskUsage& usage, api::FilesystemUsage& to) {
  to.set_timestamp(usage.timestamp);
  to.mutable_fs_id()->set_mountpoint(usage.mountpoint);
  to.mutable_used_bytes()->set_value(usage.used_bytes);
  to.mutable_inodes_used()->set_value(usage.inodes);
}

void fill(const engine::ContainerStats& stats, api::ContainerStats& to) {
  fill_attributes(stats.container->id, stats.container->config, *to.mutable_attributes());
  fill_cpu(stats.usage, *to.mutable_cpu());
  fill_memory(stats.usage, *to.mutable_memory());
  fill_io(stats.usage, *to.mutable_io());
  if (stats.usage.swap_usage_bytes) fill_swap(stats.usage, *to.mutable_swap());
  if (stats.writable_layer) fill(*stats.writable_layer, *to.mutable_writable_layer());
}

void fill(const engine::SandboxStats& stats, api::PodSandboxStats& to) {
  fill_attributes(stats.sandbox->id, stats.sandbox->config, *to.mutable_attributes());
  auto& pod = *to.mutable_linux();
  fill_cpu(stats.usage, *pod.mutable_cpu());
  fill_memory(stats.usage, *pod.mutable_memory());
  fill_io(stats.usage, *pod.mutable_io());
  if (!stats.interfaces.empty()) fill_network(stats, *pod.mutable_network());
  pod.mutable_process()->set_timestamp(stats.usage.timestamp);
  set(stats.usage.process_count, [&] { return pod.mutable_process()->mutable_process_count(); });
  for (const auto& container : stats.containers) fill(container, *pod.add_containers());
}

void fill(const engine::SandboxMetrics& metrics, api::PodSandboxMetrics& to) {
  to.set_pod_sandbox_id(metrics.sandbox_id);
  fill_metrics(metrics.metrics, *to.mutable_metrics());
  for (const engine::ContainerMetrics& container : metrics.containers) {
    auto& added = *to.add_container_metrics();
    added.set_container_id(container.container_id);
    fill_metrics(container.metrics, *added.mutable_metrics());
  }
}

}  // namespace fluyt::cri
