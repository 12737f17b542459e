#include "engine/pod_bandwidth.h"

#include <array>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <utility>

#include "base/strings.h"

namespace fluyt::engine {
namespace {

constexpr uint64_t kLeast = 1'000;
constexpr uint64_t kMost = 1'000'000'000'000'000;
constexpr size_t kMaxDigits = 32;

std::optional<double> factor_of(std::string_view suffix) {
  constexpr std::array<std::pair<std::string_view, double>, 12> kFactors = {{
      {"", 1},
      {"k", 1e3},
      {"M", 1e6},
      {"G", 1e9},
      {"T", 1e12},
      {"P", 1e15},
      {"Ki", 1024.0},
      {"Mi", 1024.0 * 1024},
      {"Gi", 1024.0 * 1024 * 1024},
      {"Ti", 1024.0 * 1024 * 1024 * 1024},
      {"e3", 1e3},
      {"e6", 1e6},
  }};
  for (const auto& [name, factor] : kFactors) {
    if (name == suffix) return factor;
  }
  return std::nullopt;
}

std::optional<uint64_t> find_quantity(const std::string& text) {
  const size_t end = text.find_first_not_of("0123456789.");
  const std::string digits = text.substr(0, end);
  const auto factor = factor_of(end == std::string::npos ? "" : std::string_view(text).substr(end));
  const bool good = !digits.empty() && digits.size() <= kMaxDigits && digits[0] != '.' &&
                    digits.find('.') == digits.rfind('.') && digits.back() != '.';
  if (!good || !factor) return std::nullopt;
  const double value = std::strtod(digits.c_str(), nullptr) * *factor;
  if (value < static_cast<double>(kLeast) || value > static_cast<double>(kMost)) {
    return std::nullopt;
  }
  return static_cast<uint64_t>(std::ceil(value));
}

Result<uint64_t> rate_of(const std::map<std::string, std::string>& annotations,
                         const std::string& name) {
  const auto found = annotations.find(name);
  if (found == annotations.end()) return uint64_t{0};
  if (const auto rate = find_quantity(found->second)) return *rate;
  return Error(
      Code::kInvalidArgument,
      cat("annotations: ", name, ": bits a second from 1k to 1P are expected, as in 10M, not ",
          quote(found->second, 64)));
}

}  // namespace

Result<network::Bandwidth> bandwidth_of(const std::map<std::string, std::string>& annotations) {
  network::Bandwidth out;
  out.ingress = FLUYT_TRY(rate_of(annotations, "kubernetes.io/ingress-bandwidth"));
  out.egress = FLUYT_TRY(rate_of(annotations, "kubernetes.io/egress-bandwidth"));
  return out;
}

}  // namespace fluyt::engine
