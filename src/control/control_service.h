#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"

namespace grpc {
class Service;
}
namespace fluyt::engine {
class Engine;
}
namespace fluyt::image {
class Library;
}

/// The front end of `fluyt.v1` (proto/fluyt/v1/control.proto): translation to engine verbs only.
namespace fluyt::control {

/// What the daemon around the engine tells and can be told. Any thread.
class Daemon {
 public:
  struct Config {
    std::vector<std::string> files;  // in the order in which they were read
    int64_t loaded_at = 0;           // unix ns
    std::string refused;             // why the last reload changed nothing; empty: it did
  };
  virtual ~Daemon() = default;
  virtual Config config() = 0;
  virtual LogLevel log_level() = 0;
  /// Until the next reload or start.
  virtual void set_log_level(LogLevel level) = 0;
};

/// Registered with the server that serves CRI; `engine`, `images` of the store that it has, and
/// `daemon` must outlive that server.
std::unique_ptr<grpc::Service> make_control_service(engine::Engine& engine, image::Library& images,
                                                    Daemon& daemon);

}  // namespace fluyt::control
