#pragma once

#include <memory>

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

/// Registered with the server that serves CRI; `engine`, and `images` of the store that it has,
/// must outlive that server.
std::unique_ptr<grpc::Service> make_control_service(engine::Engine& engine, image::Library& images);

}  // namespace fluyt::control
