#include "rpc/status.h"

namespace fluyt {
namespace {

// gRPC refuses metadata of more than 8 KiB, and escapes three bytes for one.
constexpr size_t kMaxMessage = 2048;

}  // namespace

grpc::StatusCode status_code(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case Code::kNotFound:
      return grpc::StatusCode::NOT_FOUND;
    case Code::kAlreadyExists:
      return grpc::StatusCode::ALREADY_EXISTS;
    case Code::kFailedPrecondition:
      return grpc::StatusCode::FAILED_PRECONDITION;
    case Code::kPermissionDenied:
      return grpc::StatusCode::PERMISSION_DENIED;
    case Code::kUnauthenticated:
      return grpc::StatusCode::UNAUTHENTICATED;
    case Code::kResourceExhausted:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case Code::kDeadlineExceeded:
      return grpc::StatusCode::DEADLINE_EXCEEDED;
    case Code::kUnavailable:
      return grpc::StatusCode::UNAVAILABLE;
    case Code::kUnimplemented:
      return grpc::StatusCode::UNIMPLEMENTED;
    case Code::kAborted:
      return grpc::StatusCode::ABORTED;
    case Code::kCancelled:
      return grpc::StatusCode::CANCELLED;
    case Code::kDataLoss:
      return grpc::StatusCode::DATA_LOSS;
    case Code::kInternal:
      break;
  }
  return grpc::StatusCode::INTERNAL;
}

grpc::Status to_status(const Error& error) {
  const std::string& message = error.message();
  if (message.size() <= kMaxMessage) return {status_code(error.code()), message};
  return {status_code(error.code()), message.substr(0, kMaxMessage) + "..."};
}

grpc::Status to_status(const Result<>& result) {
  return result.ok() ? grpc::Status::OK : to_status(result.error());
}

}  // namespace fluyt
