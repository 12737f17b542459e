#pragma once

#include "cri/api.h"
// after api.h
#include <vector>

#include "engine/engine.h"

namespace fluyt::cri {

/// What the kubelet is told of `event`. A sandbox counts as a container whose id is its own: being
/// ready is its creation and its start, as with engines that have a process for it. Nothing for
/// images.
std::vector<api::ContainerEventResponse> event_messages(const engine::Event& event);

}  // namespace fluyt::cri
