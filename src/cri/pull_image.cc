#include "cri/image_service.h"
// after api.h
#include "base/strings.h"
#include "cri/credentials.h"
#include "cri/from_api.h"
#include "rpc/status.h"

namespace fluyt::cri {

namespace {

// A policy's no, as against a registry's.
bool is_refusal(const Error& error) {
  return error.code() == Code::kPermissionDenied &&
         error.message().find(": image policy") != std::string::npos;
}

}  // namespace

grpc::Status ImageService::PullImage(grpc::ServerContext* context,
                                     const api::PullImageRequest* request,
                                     api::PullImageResponse* response) {
  const api::ImageSpec& spec = request->image();
  if (auto checked = check_image_spec("image", spec); !checked.ok()) return to_status(checked);
  if (auto checked = engine_.check_runtime_handler(spec.runtime_handler()); !checked.ok())
    return to_status(std::move(checked).error().add_context("image"));
  image::PullOptions options;
  auto credentials = credentials_of(request->auth());
  if (!credentials.ok()) return to_status(credentials.error());
  options.credentials = std::move(credentials).value();
  options.is_given_up = [context] { return context->IsCancelled(); };
  options.kubernetes_namespace = request->sandbox_config().metadata().namespace_();
  auto image = engine_.pull_image(spec.image(), options);
  if (!image.ok() && is_refusal(image.error())) {
    // The kubelet knows this by its first word, and only under this code.
    return {grpc::StatusCode::UNKNOWN, cat("SignatureValidationFailed: ", image.error().message())};
  }
  if (!image.ok()) return to_status(image.error());
  response->set_image_ref(image->id);
  return grpc::Status::OK;
}

}  // namespace fluyt::cri
