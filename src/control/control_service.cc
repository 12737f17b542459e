#include "control/control_service.h"

#include "control/service.h"

namespace fluyt::control {

std::unique_ptr<grpc::Service> make_control_service(engine::Engine& engine, image::Library& images,
                                                    Daemon& daemon) {
  return std::make_unique<ControlService>(engine, images, daemon);
}

}  // namespace fluyt::control
