#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/cdi/cdi.h"
#include "oci/runtime_spec.h"

/// Devices by name: what they add to a container's runtime spec. Pure.
namespace fluyt::spec::cdi {

/// A file as it was found.
struct Found {
  std::string path;
  size_t folder = 0;  // a device in a later folder takes the place of one in an earlier
  oci::cdi::File file;
};

/// Everything that `devices` ("vendor.com/class=name") add, in their order; what a file adds for
/// all of its devices comes once, before the first of them. A device that no file has is
/// kInvalidArgument; one that two files of one folder have is kFailedPrecondition and names both.
Result<oci::cdi::ContainerEdits> edits_of(const std::vector<Found>& files,
                                          const std::vector<std::string>& devices);

/// Edits `spec`. Nodes must have type, major and minor by now. A variable, a node or a mount at the
/// same place takes the place of what was there; a node without an owner is the process's.
Result<> apply(const oci::cdi::ContainerEdits& edits, oci::Spec& spec);

}  // namespace fluyt::spec::cdi
