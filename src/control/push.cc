#include "control/image_message.h"
#include "control/layer_reports.h"
#include "control/service.h"
#include "oci/reference.h"
#include "rpc/status.h"

namespace fluyt::control {

grpc::Status ControlService::Push(grpc::ServerContext* context, const v1::PushRequest* request,
                                  grpc::ServerWriter<v1::PushResponse>* writer) {
  const auto reference = oci::Reference::parse(request->image());
  if (!reference.ok()) return to_status(reference.error());
  const auto pushed = with_progress<image::Pushed>(
      *context,
      [&](LayerMessages& changed) {
        v1::PushResponse response;
        response.mutable_layers()->Swap(&changed);
        return writer->Write(response);
      },
      [&](const ProgressSink& progress, const std::atomic<bool>& cancelled) {
        // Before any progress: nobody else writes yet.
        const auto tell = [&](const image::OneOfSeveral& one) {
          v1::PushResponse first;
          fill(one, *first.mutable_one_of_several());
          writer->Write(first);
        };
        return images_.push(*reference, {.credentials = credentials_of(request->credentials()),
                                         .progress = progress,
                                         .one_of_several = tell,
                                         .cancelled = &cancelled});
      });
  if (!pushed.ok()) return to_status(pushed.error());
  v1::PushResponse last;
  last.mutable_pushed()->set_digest(pushed->digest);
  last.mutable_pushed()->set_size(pushed->size);
  last.mutable_pushed()->set_one_platform_of_several(pushed->one_platform_of_several);
  last.mutable_pushed()->set_remade_layers(static_cast<uint32_t>(pushed->remade_layers));
  writer->Write(last);
  return grpc::Status::OK;
}

}  // namespace fluyt::control
