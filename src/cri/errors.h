#pragma once

#include <grpcpp/support/status.h>

#include "base/result.h"

namespace fluyt::cri {

/// The one table from our codes to gRPC's.
grpc::StatusCode status_code(Code code);
/// The status that a client gets for `error`: its code and its whole sentence.
grpc::Status to_status(const Error& error);
/// An outcome without a value.
grpc::Status to_status(const Result<>& result);

}  // namespace fluyt::cri
