#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

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
  std::vector<std::string> config_files;  // in the order in which they were read
  int64_t config_loaded_at = 0;           // unix ns
  std::string config_refused;             // why the last reload changed nothing; empty: it did
  std::string certs_dir;
  std::string cni_conf_dir;
  std::string cni_bin_dirs;
};

/// The two services of the CRI, for registering with a grpc::Server; they borrow the engine, and
/// what makes the addresses for Exec, Attach and PortForward.
/// `info` is asked anew each time, from any thread.
std::unique_ptr<grpc::Service> make_runtime_service(engine::Engine& engine, streaming::Urls& urls,
                                                    std::function<ServerInfo()> info);
std::unique_ptr<grpc::Service> make_image_service(engine::Engine& engine);

}  // namespace fluyt::cri
