#include "base/strings.h"
#include "control/image_message.h"
#include "control/service.h"
#include "rpc/status.h"

namespace fluyt::control {

namespace {

constexpr size_t kPieceBytes = 256UL << 10U;

}  // namespace

grpc::Status ControlService::Save(grpc::ServerContext* context, const v1::SaveRequest* request,
                                  grpc::ServerWriter<v1::SaveResponse>* writer) {
  image::SaveOptions options;
  options.images.assign(request->images().begin(), request->images().end());
  options.format = request->format() == v1::SaveRequest::OCI ? image::ArchiveFormat::kOci
                                                             : image::ArchiveFormat::kDocker;
  // Headers are small: they travel with what follows them.
  v1::SaveResponse piece;
  const auto send = [&]() -> Result<> {
    const bool sent = writer->Write(piece);
    piece.clear_data();
    if (sent && !context->IsCancelled()) return {};
    return Error(Code::kCancelled, "save: the caller went away");
  };
  options.one_of_several = [&](const image::OneOfSeveral& one) {
    v1::SaveResponse first;
    fill(one, *first.mutable_one_of_several());
    writer->Write(first);
  };
  auto saved = images_.save(options, [&](std::string_view bytes) -> Result<> {
    piece.mutable_data()->append(bytes);
    return piece.data().size() >= kPieceBytes ? send() : Result<>();
  });
  if (saved.ok() && !piece.data().empty()) saved = send();
  return saved.ok() ? grpc::Status::OK : to_status(saved.error());
}

}  // namespace fluyt::control
