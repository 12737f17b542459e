#pragma once

#include <grpcpp/support/status.h>

#include "base/result.h"

namespace fluyt::control {

/// The one table from our codes to gRPC's; the message cut to what fits into trailing metadata.
grpc::Status to_status(const Error& error);

}  // namespace fluyt::control
