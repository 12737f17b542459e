#pragma once

#include "network/builtin/builtin.h"

/// One built-in plugin a file: what builtin.cc chooses from by name.
namespace fluyt::network::builtin {

std::string bridge_why_not(const Json& config);
Result<Json> bridge_add(const Call& call);
Result<> bridge_check(const Call& call);
Result<> bridge_remove(const Call& call);
Result<> bridge_status(const Call& call);
Result<> bridge_collect(const Call& call);

std::string portmap_why_not(const Json& config);
Result<Json> portmap_add(const Call& call);
Result<> portmap_check(const Call& call);
Result<> portmap_remove(const Call& call);
Result<> portmap_status(const Call& call);

std::string loopback_why_not(const Json& config);
Result<Json> loopback_add(const Call& call);
Result<> loopback_check(const Call& call);
Result<> loopback_remove(const Call& call);

}  // namespace fluyt::network::builtin
