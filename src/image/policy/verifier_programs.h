#pragma once

#include <string>

#include "base/result.h"
#include "image/policy/options.h"
#include "oci/image.h"

namespace fluyt::image::policy {

/// Runs each executable of the folder in the order of names, as containerd does (its
/// docs/image-verification.md):
///     PROGRAM -name NAME -digest DIGEST -stdin-media-type application/vnd.oci.descriptor.v1+json
/// with the manifest's descriptor as JSON on its standard input. Status 0 lets the image pass, any
/// other refuses it; what it prints is the reason. kPermissionDenied naming the program that
/// refused. A folder that is not there refuses everything: whoever named it wanted something to be
/// asked.
Result<> ask_programs(const VerifierPrograms& programs, const std::string& name,
                      const oci::Descriptor& manifest);

}  // namespace fluyt::image::policy
