#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"

/// CDI: devices that the administrator's files describe, by name.
namespace fluyt::engine {

/// Adds what `devices` add to `spec`, from the files of `folders` as they are now (*.json, *.yaml,
/// *.yml, not below; the later folder wins; one that is not there is empty). A file that cannot be
/// used is passed over, and named where a device is missed. No devices: nothing is read.
Result<> add_cdi_devices(const std::vector<std::string>& folders,
                         const std::vector<std::string>& devices, oci::Spec& spec);

}  // namespace fluyt::engine
