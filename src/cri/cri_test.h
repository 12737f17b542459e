#pragma once

#include "cri/api.h"

/// For tests: the least of a message that is taken.
namespace fluyt::cri {

inline api::PodSandboxConfig pod() {
  api::PodSandboxConfig config;
  config.mutable_metadata()->set_name("n");
  config.mutable_metadata()->set_namespace_("ns");
  config.mutable_metadata()->set_uid("u");
  return config;
}

inline api::ContainerConfig container() {
  api::ContainerConfig config;
  config.mutable_metadata()->set_name("c");
  config.mutable_image()->set_image("busybox");
  return config;
}

}  // namespace fluyt::cri
