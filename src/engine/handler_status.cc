#include "engine/core.h"

namespace fluyt::engine {
namespace {

/// mount_setattr(2): every kernel that we run on.
constexpr oci::RuntimeFeatures kLinkedFeatures{
    .recursive_readonly_mounts = true, .idmapped_mounts = true, .user_namespaces = true};

bool has_users(const oci::RuntimeFeatures& features) {
  return features.user_namespaces && features.idmapped_mounts;
}

}  // namespace

bool Engine::Core::can_have_users(const std::string& handler) const {
  if (!host.no_user_namespaces.empty()) return false;
  return has_users(handler == kLinkedHandler ? kLinkedFeatures : features.of(handler));
}

bool Engine::Core::wants_sandbox_container(const std::string& handler) const {
  const auto in_force = now();
  const auto chosen = choose_handler(*in_force, handler);
  if (!chosen.ok() || *chosen == nullptr) return false;
  return (*chosen)->sandbox_container.value_or(features.of(handler).sandbox_container);
}

std::vector<HandlerStatus> Engine::Core::handler_statuses() {
  const auto in_force = now();
  if (features.any_changed(*in_force) && !asks_features.exchange(true)) {
    worker.post([this] {
      features.ask_changed(*now(), logger);
      asks_features = false;
    });
  }
  const auto status_of = [this](std::string name, const oci::RuntimeFeatures& can) {
    return HandlerStatus{.name = std::move(name),
                         .recursive_readonly_mounts = can.recursive_readonly_mounts,
                         .user_namespaces = host.no_user_namespaces.empty() && has_users(can)};
  };
  std::vector<HandlerStatus> all = {status_of(std::string(kLinkedHandler), kLinkedFeatures)};
  for (const RuntimeHandler& handler : in_force->handlers)
    all.push_back(status_of(handler.name, features.of(handler.name)));
  for (const HandlerStatus& status : all) {
    if (status.name != in_force->default_handler) continue;
    HandlerStatus unnamed = status;
    unnamed.name.clear();
    all.insert(all.begin(), std::move(unnamed));
    break;
  }
  return all;
}

Result<> Engine::check_runtime_handler(const std::string& name) const {
  FLUYT_TRY(choose_handler(*core_->now(), name));
  return {};
}

}  // namespace fluyt::engine
