#pragma once

#include "control/control_service.h"
#include "engine/engine.h"
#include "fluyt/v1/control.grpc.pb.h"
#include "image/library.h"

namespace fluyt::control {

/// One method an RPC, each in a file of its own. gRPC calls from many threads; a call that blocks
/// keeps its thread.
class ControlService final : public v1::Control::Service {
 public:
  ControlService(engine::Engine& engine, image::Library& images, Daemon& daemon)
      : engine_(engine), images_(images), daemon_(daemon) {}

  grpc::Status Info(grpc::ServerContext* context, const v1::InfoRequest* request,
                    v1::InfoResponse* response) override;
  grpc::Status Pull(grpc::ServerContext* context, const v1::PullRequest* request,
                    grpc::ServerWriter<v1::PullResponse>* writer) override;
  grpc::Status Import(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::ImportResponse, v1::ImportRequest>* stream) override;
  grpc::Status Push(grpc::ServerContext* context, const v1::PushRequest* request,
                    grpc::ServerWriter<v1::PushResponse>* writer) override;
  grpc::Status Save(grpc::ServerContext* context, const v1::SaveRequest* request,
                    grpc::ServerWriter<v1::SaveResponse>* writer) override;
  grpc::Status Tag(grpc::ServerContext* context, const v1::TagRequest* request,
                   v1::TagResponse* response) override;
  grpc::Status ListImages(grpc::ServerContext* context, const v1::ListImagesRequest* request,
                          v1::ListImagesResponse* response) override;
  grpc::Status InspectImage(grpc::ServerContext* context, const v1::InspectImageRequest* request,
                            v1::InspectImageResponse* response) override;
  grpc::Status CollectGarbage(grpc::ServerContext* context,
                              const v1::CollectGarbageRequest* request,
                              v1::CollectGarbageResponse* response) override;
  grpc::Status Examine(grpc::ServerContext* context, const v1::ExamineRequest* request,
                       v1::ExamineResponse* response) override;
  grpc::Status VerifyImages(grpc::ServerContext* context, const v1::VerifyImagesRequest* request,
                            grpc::ServerWriter<v1::VerifyImagesResponse>* writer) override;
  grpc::Status PruneImages(grpc::ServerContext* context, const v1::PruneImagesRequest* request,
                           v1::PruneImagesResponse* response) override;
  grpc::Status Exec(grpc::ServerContext* context,
                    grpc::ServerReaderWriter<v1::ExecResponse, v1::ExecRequest>* stream) override;
  grpc::Status Attach(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::AttachResponse, v1::AttachRequest>* stream) override;
  grpc::Status Untag(grpc::ServerContext* context, const v1::UntagRequest* request,
                     v1::UntagResponse* response) override;
  grpc::Status Wait(grpc::ServerContext* context, const v1::WaitRequest* request,
                    v1::WaitResponse* response) override;
  grpc::Status Recreate(grpc::ServerContext* context, const v1::RecreateRequest* request,
                        v1::RecreateResponse* response) override;
  grpc::Status StatFile(grpc::ServerContext* context, const v1::StatFileRequest* request,
                        v1::StatFileResponse* response) override;
  grpc::Status ReadFiles(grpc::ServerContext* context, const v1::ReadFilesRequest* request,
                         grpc::ServerWriter<v1::ReadFilesResponse>* writer) override;
  grpc::Status WriteFiles(grpc::ServerContext* context,
                          grpc::ServerReader<v1::WriteFilesRequest>* reader,
                          v1::WriteFilesResponse* response) override;
  grpc::Status SetLogLevel(grpc::ServerContext* context, const v1::SetLogLevelRequest* request,
                           v1::SetLogLevelResponse* response) override;
  grpc::Status Signal(grpc::ServerContext* context, const v1::SignalRequest* request,
                      v1::SignalResponse* response) override;
  grpc::Status Events(grpc::ServerContext* context, const v1::EventsRequest* request,
                      grpc::ServerWriter<v1::Event>* writer) override;
  grpc::Status Trace(grpc::ServerContext* context, const v1::TraceRequest* request,
                     v1::TraceResponse* response) override;

 private:
  engine::Engine& engine_;
  image::Library& images_;
  Daemon& daemon_;
};

/// How often a call that waits looks whether its caller is still there: the synchronous interface
/// of gRPC has no other way to learn it.
inline constexpr int64_t kLookMs = 500;

}  // namespace fluyt::control
