#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "network/network.h"

namespace fluyt::engine {

/// What the annotations kubernetes.io/ingress-bandwidth and egress-bandwidth ask for: bits a second
/// as Kubernetes writes quantities, from 1k to 1P. Errors name the annotation and its value.
Result<network::Bandwidth> bandwidth_of(const std::map<std::string, std::string>& annotations);

}  // namespace fluyt::engine
