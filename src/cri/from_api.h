#pragma once

#include "cri/api.h"
// after api.h
#include <string_view>

#include "base/result.h"
#include "engine/config.h"
#include "engine/model.h"

/// CRI's messages to the engine's values. What cannot be meant is kInvalidArgument, naming the
/// field as CRI does, its value and what was expected.
namespace fluyt::cri {

Result<engine::SandboxConfig> sandbox_config(const api::PodSandboxConfig& config);
Result<engine::ContainerConfig> container_config(const api::ContainerConfig& config);
Result<engine::Resources> resources(const api::LinuxContainerResources& resources);
/// An image by name or id. `field` is the message's. Its runtime handler is the engine's to know.
Result<> check_image_spec(std::string_view field, const api::ImageSpec& image);
engine::SandboxFilter sandbox_filter(const api::PodSandboxFilter& filter);
/// Nothing for CONTAINER_UNKNOWN, a state that we have no container in.
std::optional<engine::ContainerFilter> container_filter(const api::ContainerFilter& filter);
engine::ContainerFilter stats_filter(const api::ContainerStatsFilter& filter);
engine::SandboxFilter stats_filter(const api::PodSandboxStatsFilter& filter);
/// What a pod as a whole is given, in `field`; nothing where the message has it not.
Result<std::optional<engine::Resources>> pod_resources(
    const std::string& field, bool present, const api::LinuxContainerResources& resources);

}  // namespace fluyt::cri
