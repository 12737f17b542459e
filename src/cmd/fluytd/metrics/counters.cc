#include "cmd/fluytd/metrics/counters.h"

namespace fluyt::daemon {
namespace {

constexpr size_t kMaxEntries = 256;

}  // namespace

void Calls::end(int code, int64_t ns) {
  took.observe_ns(ns);
  const auto at = static_cast<size_t>(code);
  ++ended[code >= 0 && at < kCodes ? at : 2];  // UNKNOWN
  --running;
}

Calls& CallTable::of(std::string_view service, std::string_view method) {
  auto calls = calls_.lock();
  Key key{std::string(service), std::string(method)};
  if (!calls->contains(key) && calls->size() >= kMaxEntries) key = {"other", "other"};
  auto& entry = (*calls)[std::move(key)];
  if (!entry) entry = std::make_unique<Calls>();
  return *entry;
}

std::vector<std::pair<CallTable::Key, const Calls*>> CallTable::all() const {
  std::vector<std::pair<Key, const Calls*>> out;
  auto calls = calls_.lock();
  for (const auto& [key, entry] : *calls) out.emplace_back(key, entry.get());
  return out;
}

}  // namespace fluyt::daemon
