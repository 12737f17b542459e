#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// Figures under the names that cAdvisor has given them, for monitoring systems: what they are, and
/// their values. Values are whole numbers, seconds among them, as the CRI wants it.
namespace fluyt::engine {

enum class MetricType { kCounter, kGauge };

struct MetricDescriptor {
  std::string name;
  std::string help;
  MetricType type = MetricType::kGauge;
  std::vector<std::string> label_keys;
};
/// Every one that there is, the same list for as long as we run.
const std::vector<MetricDescriptor>& metric_descriptors();

struct Metric {
  const MetricDescriptor* descriptor = nullptr;  // one of metric_descriptors()
  std::vector<std::string> label_values;         // one for each key of the descriptor
  uint64_t value = 0;
};
struct ContainerMetrics {
  std::string container_id;
  std::vector<Metric> metrics;
};
struct SandboxMetrics {
  std::string sandbox_id;
  std::vector<Metric> metrics;
  std::vector<ContainerMetrics> containers;
};

}  // namespace fluyt::engine
