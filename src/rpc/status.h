#pragma once

#include <grpcpp/support/status.h>

#include "base/result.h"

/// What both gRPC servers, CRI's and the one of `fluyt`, say of an outcome.
namespace fluyt {

/// The one table from our codes to gRPC's.
grpc::StatusCode status_code(Code code);
/// The status that a client gets for `error`: its code and its sentence, cut to what fits into
/// trailing metadata.
grpc::Status to_status(const Error& error);
/// An outcome without a value.
grpc::Status to_status(const Result<>& result);

}  // namespace fluyt
