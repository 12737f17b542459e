#include "engine/model.h"

#include <algorithm>

namespace fluyt::engine {
namespace {

bool has_all(const std::map<std::string, std::string>& wanted,
             const std::map<std::string, std::string>& labels) {
  return std::ranges::all_of(wanted, [&](const auto& want) {
    const auto found = labels.find(want.first);
    return found != labels.end() && found->second == want.second;
  });
}

}  // namespace

bool matches(const SandboxFilter& filter, const Sandbox& sandbox) {
  return sandbox.id.starts_with(filter.id) && (!filter.state || *filter.state == sandbox.state) &&
         has_all(filter.labels, sandbox.config.labels);
}

bool matches(const ContainerFilter& filter, const Container& container) {
  return container.id.starts_with(filter.id) &&
         container.sandbox_id.starts_with(filter.sandbox_id) &&
         (!filter.state || *filter.state == container.state) &&
         has_all(filter.labels, container.config.labels);
}

}  // namespace fluyt::engine
