#include "cmd/fluytd/config/reading.h"

#include "base/strings.h"

namespace fluyt::daemon {
namespace {

constexpr size_t kMaxShown = 120;
constexpr size_t kMaxInSummary = 5;

std::string shown(const Value& value) {
  std::string text = to_toml(masked(value));
  if (text.size() > kMaxShown) text = text.substr(0, kMaxShown) + "...";
  return text;
}

}  // namespace

std::string Problem::text() const {
  std::string out;
  if (!place.file.empty()) out += place.text() + ": ";
  if (!key.empty() && place.line != 0) out += key + ": ";
  if (!value.empty()) out += value + ": ";
  return out + fact;
}

std::string summary(const Problems& problems) {
  if (problems.size() == 1) return problems.front().text();
  std::string out = cat(problems.size(), " errors: ");
  for (size_t i = 0; i < problems.size() && i < kMaxInSummary; ++i) {
    out += cat(i == 0 ? "" : "; ", problems[i].text());
  }
  if (problems.size() > kMaxInSummary) out += "; ...";
  return out;
}

Reading Reading::item(size_t number) const {
  return {(*value_.list())[number], cat(name_, "[", number, "]"), problems_};
}

std::nullopt_t Reading::wrong(std::string fact) const {
  if (is_secret(name_)) return wrong_unseen(std::move(fact));
  problems_.push_back(
      {.place = value_.place, .key = name_, .value = shown(value_), .fact = std::move(fact)});
  return std::nullopt;
}

std::nullopt_t Reading::wrong_unseen(std::string fact) const {
  problems_.push_back({.place = value_.place, .key = name_, .value = {}, .fact = std::move(fact)});
  return std::nullopt;
}

}  // namespace fluyt::daemon
