#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cmd/fluytd/metrics/histogram.h"

namespace fluyt::daemon {

/// Prometheus' text format, version 0.0.4
/// (prometheus.io/docs/instrumenting/exposition_formats): families one after the other, each with
/// its samples behind it.
class Exposition {
 public:
  using Labels = std::vector<std::pair<std::string_view, std::string>>;
  enum class Type { kCounter, kGauge, kHistogram };

  /// Begins a family; the samples that follow are its own. Each name once.
  void family(std::string_view name, Type type, std::string_view help);
  void sample(const Labels& labels, double value);
  void sample(const Labels& labels, uint64_t value);
  void sample(const Labels& labels, const Histogram::Values& values);
  /// All of it; this is empty then.
  std::string take() { return std::move(text_); }

 private:
  void line(std::string_view suffix, const Labels& labels, std::string_view value);
  std::string name_;
  std::string text_;
};

}  // namespace fluyt::daemon
