#pragma once

#include "cri/api.h"
// after api.h
#include "cri/service.h"
#include "engine/engine.h"
#include "streaming/urls.h"

namespace fluyt::cri {

/// One method an RPC, each in the file of its name: translate, call the engine, translate back.
class RuntimeService final : public api::RuntimeService::Service {
 public:
  RuntimeService(engine::Engine& engine, streaming::Urls& urls, std::function<ServerInfo()> info)
      : engine_(engine), urls_(urls), info_(std::move(info)) {}

#define FLUYT_RPC(Name)                                                              \
  grpc::Status Name(grpc::ServerContext* context, const api::Name##Request* request, \
                    api::Name##Response* response) override
  FLUYT_RPC(Version);
  FLUYT_RPC(Status);
  FLUYT_RPC(RuntimeConfig);
  FLUYT_RPC(UpdateRuntimeConfig);
  FLUYT_RPC(RunPodSandbox);
  FLUYT_RPC(StopPodSandbox);
  FLUYT_RPC(RemovePodSandbox);
  FLUYT_RPC(PodSandboxStatus);
  FLUYT_RPC(ListPodSandbox);
  FLUYT_RPC(CreateContainer);
  FLUYT_RPC(StartContainer);
  FLUYT_RPC(StopContainer);
  FLUYT_RPC(RemoveContainer);
  FLUYT_RPC(ListContainers);
  FLUYT_RPC(ContainerStatus);
  FLUYT_RPC(UpdateContainerResources);
  FLUYT_RPC(ReopenContainerLog);
  FLUYT_RPC(ExecSync);
  FLUYT_RPC(Exec);
  FLUYT_RPC(Attach);
  FLUYT_RPC(PortForward);
  FLUYT_RPC(ContainerStats);
  FLUYT_RPC(ListContainerStats);
  FLUYT_RPC(PodSandboxStats);
  FLUYT_RPC(ListPodSandboxStats);
  FLUYT_RPC(CheckpointContainer);
  FLUYT_RPC(ListMetricDescriptors);
  FLUYT_RPC(ListPodSandboxMetrics);
  FLUYT_RPC(UpdatePodSandboxResources);
#undef FLUYT_RPC
#define FLUYT_STREAM(Name, Request, Response)                                  \
  grpc::Status Name(grpc::ServerContext* context, const api::Request* request, \
                    grpc::ServerWriter<api::Response>* writer) override
  FLUYT_STREAM(StreamPodSandboxes, StreamPodSandboxesRequest, StreamPodSandboxesResponse);
  FLUYT_STREAM(StreamContainers, StreamContainersRequest, StreamContainersResponse);
  FLUYT_STREAM(StreamContainerStats, StreamContainerStatsRequest, StreamContainerStatsResponse);
  FLUYT_STREAM(StreamPodSandboxStats, StreamPodSandboxStatsRequest, StreamPodSandboxStatsResponse);
  FLUYT_STREAM(StreamPodSandboxMetrics, StreamPodSandboxMetricsRequest,
               StreamPodSandboxMetricsResponse);
  FLUYT_STREAM(GetContainerEvents, GetEventsRequest, ContainerEventResponse);
#undef FLUYT_STREAM

 private:
  engine::Engine& engine_;
  streaming::Urls& urls_;
  std::function<ServerInfo()> info_;
};

}  // namespace fluyt::cri
