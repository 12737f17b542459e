#pragma once

/// The generated CRI messages. CRI has an enumeration whose values are named SIGABRT and so on:
/// include this before anything that brings in <csignal>, whose macros would take the names away.
#include "cri/v1/api.grpc.pb.h"

namespace fluyt::cri {
namespace api = ::runtime::v1;
}  // namespace fluyt::cri
