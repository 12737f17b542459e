#pragma once

#include "cmd/fluytd/config/settings.h"
#include "engine/engine.h"
#include "image/library.h"
#include "network/network.h"

/// What the settings mean for each part, at the start and at a reload alike.
namespace fluyt::daemon {

engine::Options engine_options(const Settings& settings);
network::Options network_options(const Settings& settings);
/// Proxies are of this process's environment.
Result<image::StoreOptions> store_options(const Settings& settings);
Result<image::StoreChange> store_change(const Settings& settings);

}  // namespace fluyt::daemon
