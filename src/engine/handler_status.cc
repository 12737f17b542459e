#include "engine/core.h"

namespace fluyt::engine {
namespace {

/// Pods with a user namespace of their own: none yet, whatever their runtime could do.
constexpr bool kUserNamespaces = false;

/// mount_setattr(2): every kernel that we run on.
constexpr oci::RuntimeFeatures kLinkedFeatures{
    .recursive_readonly_mounts = true, .idmapped_mounts = true, .user_namespaces = true};

HandlerStatus status_of(std::string name, const oci::RuntimeFeatures& features) {
  return {.name = std::move(name),
          .recursive_readonly_mounts = features.recursive_readonly_mounts,
          .user_namespaces = kUserNamespaces && features.user_namespaces};
}

}  // namespace

std::vector<HandlerStatus> Engine::Core::handler_statuses() {
  if (features.any_changed(options) && !asks_features.exchange(true)) {
    worker.post([this] {
      features.ask_changed(options, logger);
      asks_features = false;
    });
  }
  std::vector<HandlerStatus> all = {status_of(std::string(kLinkedHandler), kLinkedFeatures)};
  for (const RuntimeHandler& handler : options.handlers)
    all.push_back(status_of(handler.name, features.of(handler.name)));
  for (const HandlerStatus& status : all) {
    if (status.name != options.default_handler) continue;
    HandlerStatus unnamed = status;
    unnamed.name.clear();
    all.insert(all.begin(), std::move(unnamed));
    break;
  }
  return all;
}

Result<> Engine::check_runtime_handler(const std::string& name) const {
  FLUYT_TRY(choose_handler(core_->options, name));
  return {};
}

}  // namespace fluyt::engine
