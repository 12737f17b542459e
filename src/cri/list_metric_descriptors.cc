#include "cri/runtime_service.h"

namespace fluyt::cri {

grpc::Status RuntimeService::ListMetricDescriptors(
    grpc::ServerContext* /*context*/, const api::ListMetricDescriptorsRequest* /*request*/,
    api::ListMetricDescriptorsResponse* response) {
  for (const engine::MetricDescriptor& one : engine::metric_descriptors()) {
    auto* descriptor = response->add_descriptors();
    descriptor->set_name(one.name);
    descriptor->set_help(one.help);
    for (const std::string& key : one.label_keys) descriptor->add_label_keys(key);
  }
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
