#include "cri/runtime_service.h"

/// The RPCs that this version does not do. The kubelet falls back where it can (Stream* to List*).
namespace fluyt::cri {
namespace {

grpc::Status unimplemented(const char* method) {
  return {grpc::StatusCode::UNIMPLEMENTED,
          std::string("runtime.v1.") + method + " is not implemented by this version of fluyt"};
}

}  // namespace

#define FLUYT_UNIMPLEMENTED(Name)                                          \
  grpc::Status RuntimeService::Name(grpc::ServerContext* /*context*/,      \
                                    const api::Name##Request* /*request*/, \
                                    api::Name##Response* /*response*/) {   \
    return unimplemented("RuntimeService/" #Name);                         \
  }
FLUYT_UNIMPLEMENTED(PodSandboxStats)
FLUYT_UNIMPLEMENTED(ListPodSandboxStats)
FLUYT_UNIMPLEMENTED(CheckpointContainer)
FLUYT_UNIMPLEMENTED(ListMetricDescriptors)
FLUYT_UNIMPLEMENTED(ListPodSandboxMetrics)
FLUYT_UNIMPLEMENTED(UpdatePodSandboxResources)
#undef FLUYT_UNIMPLEMENTED

#define FLUYT_UNIMPLEMENTED_STREAM(Service, Name, Request, Response)                            \
  grpc::Status Service::Name(grpc::ServerContext* /*context*/, const api::Request* /*request*/, \
                             grpc::ServerWriter<api::Response>* /*writer*/) {                   \
    return unimplemented(#Service "/" #Name);                                                   \
  }
FLUYT_UNIMPLEMENTED_STREAM(RuntimeService, StreamPodSandboxStats, StreamPodSandboxStatsRequest,
                           StreamPodSandboxStatsResponse)
FLUYT_UNIMPLEMENTED_STREAM(RuntimeService, StreamPodSandboxMetrics, StreamPodSandboxMetricsRequest,
                           StreamPodSandboxMetricsResponse)
#undef FLUYT_UNIMPLEMENTED_STREAM

}  // namespace fluyt::cri
