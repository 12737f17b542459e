#pragma once

#include <string>

#include "network/builtin/fields.h"

/// What address management and the plugins that ask it have in common.
namespace fluyt::network {

struct Owner {
  std::string container_id, device;
};

struct Given {
  Json ips;     // result form of 1.0.0, no interface yet
  Json routes;  // null: none
  Json dns;     // an object
};

}  // namespace fluyt::network
