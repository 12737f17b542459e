#pragma once

#include <cstddef>
#include <string>

namespace fluyt::daemon {

inline constexpr size_t kAllOfAMillion = 1'000'000;

/// The table [tracing] of the configuration.
struct TracingOptions {
  std::string endpoint;  // "http://127.0.0.1:4318"; empty: nothing is sent
  size_t sampling_per_million = kAllOfAMillion;
  std::string service_name = "fluytd";
  bool operator==(const TracingOptions&) const = default;
};

/// Whether `text` may be an endpoint: http or https, a host, and what else a URL has but a query.
bool is_endpoint(const std::string& text);

}  // namespace fluyt::daemon
