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
FLUYT_UNIMPLEMENTED(CheckpointContainer)
#undef FLUYT_UNIMPLEMENTED

}  // namespace fluyt::cri
