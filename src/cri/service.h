#pragma once

#include <memory>
#include <string>

namespace grpc {
class Service;
}

namespace fluyt::engine {
class Engine;
}
namespace fluyt::streaming {
class Urls;
}

namespace fluyt::cri {

/// What Status(verbose) shows of the daemon beside what the engine knows.
struct ServerInfo {
  std::string listen;
  std::string config_file;
  std::string certs_dir;
  std::string cni_conf_dir;
  std::string cni_bin_dirs;
};

/// The two services of the CRI, for registering with a grpc::Server; they borrow the engine, and
/// what makes the addresses for Exec, Attach and PortForward.
std::unique_ptr<grpc::Service> make_runtime_service(engine::Engine& engine, streaming::Urls& urls,
                                                    ServerInfo info);
std::unique_ptr<grpc::Service> make_image_service(engine::Engine& engine);

}  // namespace fluyt::cri
