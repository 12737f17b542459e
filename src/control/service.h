#pragma once

#include "engine/engine.h"
#include "fluyt/v1/control.grpc.pb.h"

namespace fluyt::control {

/// One method an RPC, each in a file of its own. gRPC calls from many threads; a call that blocks
/// keeps its thread.
class ControlService final : public v1::Control::Service {
 public:
  explicit ControlService(engine::Engine& engine) : engine_(engine) {}

  grpc::Status Info(grpc::ServerContext* context, const v1::InfoRequest* request,
                    v1::InfoResponse* response) override;
  grpc::Status Pull(grpc::ServerContext* context, const v1::PullRequest* request,
                    grpc::ServerWriter<v1::PullResponse>* writer) override;
  grpc::Status Import(grpc::ServerContext* context, grpc::ServerReader<v1::ImportRequest>* reader,
                      v1::ImportResponse* response) override;
  grpc::Status Exec(grpc::ServerContext* context,
                    grpc::ServerReaderWriter<v1::ExecResponse, v1::ExecRequest>* stream) override;
  grpc::Status Attach(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::AttachResponse, v1::AttachRequest>* stream) override;
  grpc::Status Untag(grpc::ServerContext* context, const v1::UntagRequest* request,
                     v1::UntagResponse* response) override;
  grpc::Status Wait(grpc::ServerContext* context, const v1::WaitRequest* request,
                    v1::WaitResponse* response) override;
  grpc::Status Signal(grpc::ServerContext* context, const v1::SignalRequest* request,
                      v1::SignalResponse* response) override;
  grpc::Status Events(grpc::ServerContext* context, const v1::EventsRequest* request,
                      grpc::ServerWriter<v1::Event>* writer) override;

 private:
  engine::Engine& engine_;
};

/// How often a call that waits looks whether its caller is still there: the synchronous interface
/// of gRPC has no other way to learn it.
inline constexpr int64_t kLookMs = 500;

}  // namespace fluyt::control
