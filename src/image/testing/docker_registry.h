#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "sys/file.h"
#include "sys/process.h"

namespace fluyt::image::testing {

/// Debian's docker-registry, the real thing, on a free port of 127.0.0.1 with a folder of its own.
/// Ended and removed with this object.
class DockerRegistry {
 public:
  enum class Login { kNone, kBasic };  // kBasic: user "u", password "p w"
  /// kNotFound when the machine has no docker-registry.
  static Result<std::unique_ptr<DockerRegistry>> start(Login login = Login::kNone);
  ~DockerRegistry();
  DockerRegistry(const DockerRegistry&) = delete;
  DockerRegistry& operator=(const DockerRegistry&) = delete;
  std::string host() const;  // 127.0.0.1:port

 private:
  DockerRegistry(sys::TempDir folder, uint16_t port, sys::Process process);
  bool answers() const;
  sys::TempDir folder_;
  uint16_t port_;
  sys::Process process_;
};

}  // namespace fluyt::image::testing
