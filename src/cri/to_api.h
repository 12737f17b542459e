#pragma once

#include "cri/api.h"
// after api.h
#include "engine/metrics.h"
#include "engine/model.h"
#include "image/image_store.h"

/// The engine's values to CRI's messages.
namespace fluyt::cri {

api::PodSandboxState to_api(engine::SandboxState state);
api::ContainerState to_api(engine::ContainerState state);
void fill(const engine::SandboxName& name, api::PodSandboxMetadata& to);
void fill(const engine::ContainerName& name, api::ContainerMetadata& to);
void fill(const engine::Sandbox& sandbox, api::PodSandbox& to);
void fill(const engine::Sandbox& sandbox, api::PodSandboxStatus& to);
void fill(const engine::Container& container, api::Container& to);
void fill(const engine::Container& container, api::ContainerStatus& to);
void fill(const engine::Resources& resources, api::LinuxContainerResources& to);
void fill(const engine::ContainerStats& stats, api::ContainerStats& to);
void fill(const engine::SandboxStats& stats, api::PodSandboxStats& to);
void fill(const engine::SandboxMetrics& metrics, api::PodSandboxMetrics& to);
void fill(const engine::DiskUsage& usage, api::FilesystemUsage& to);
void fill(const image::Image& image, api::Image& to);

}  // namespace fluyt::cri
