#include "base/guarded.h"
#include "base/strings.h"
#include "control/image_message.h"
#include "control/layer_reports.h"
#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::Pull(grpc::ServerContext* context, const v1::PullRequest* request,
                                  grpc::ServerWriter<v1::PullResponse>* writer) {
  image::PullOptions options;
  options.credentials = credentials_of(request->credentials());
  options.purpose = image::PullOptions::Purpose::kRunAndPush;
  if (!request->platform().empty()) {
    auto platform = oci::Platform::parse(request->platform());
    if (!platform.ok()) return to_status(platform.error());
    options.platform = std::move(*platform);
  }
  Guarded<std::vector<std::string>> warnings;
  options.warning = [&](const std::string& warning) { warnings.lock()->push_back(warning); };
  const auto pulled = with_progress<image::Image>(
      *context,
      [&](LayerMessages& changed) {
        v1::PullResponse response;
        response.mutable_layers()->Swap(&changed);
        return writer->Write(response);
      },
      [&](const ProgressSink& progress, const std::atomic<bool>& cancelled) {
        options.progress = progress;
        options.is_given_up = [&cancelled] { return cancelled.load(); };
        return engine_.pull_image(request->image(), options);
      });
  if (!pulled.ok()) return to_status(pulled.error());
  v1::PullResponse last;
  fill(*pulled, *last.mutable_image());
  for (const std::string& warning : *warnings.lock()) last.add_warnings(warning);
  writer->Write(last);
  return grpc::Status::OK;
}

}  // namespace fluyt::control
