#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "cmd/fluytd/metrics/counters.h"
#include "cmd/fluytd/tracing/tracing.h"
#include "sys/fd.h"

namespace grpc {
class Service;
}

namespace fluyt::daemon {

/// gRPC on our own unix socket: root:root 0660 from birth, in a folder that only root can write to;
/// a socket that somebody answers on is never replaced.
class GrpcServer {
 public:
  /// `services` are borrowed, and `calls`, where every call is counted, and `tracing`. Serves from
  /// here on. With a listener that is valid that one is served, which whoever made it keeps at
  /// `path`.
  static Result<std::unique_ptr<GrpcServer>> start(const std::string& path, sys::Fd listener,
                                                   const std::vector<grpc::Service*>& services,
                                                   CallTable& calls, Tracing& tracing,
                                                   Logger& logger);
  virtual ~GrpcServer() = default;
  /// No new connections; calls under way have until the deadline, then they are cancelled. Returns
  /// when none runs any more, or shortly after the deadline: false then.
  virtual bool stop(Deadline deadline) = 0;
};

}  // namespace fluyt::daemon
