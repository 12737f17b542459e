#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "image/policy/options.h"
#include "oci/image.h"

namespace fluyt::image::policy {

/// The names of those that are to be asked, in the order of names. A folder that is not there is an
/// error, and so refuses everything: whoever named it wanted something to be asked.
Result<std::vector<std::string>> list_programs(const VerifierPrograms& programs);

/// Runs each of `names` in turn, as containerd does (its docs/image-verification.md):
///     PROGRAM -name NAME -digest DIGEST -stdin-media-type application/vnd.oci.descriptor.v1+json
/// with the manifest's descriptor as JSON on its standard input. Status 0 lets the image pass, any
/// other refuses it; what it prints is the reason. kPermissionDenied naming the program that
/// refused; kDeadlineExceeded when `deadline` passed before one had its own time.
Result<> ask_programs(const VerifierPrograms& programs, const std::vector<std::string>& names,
                      const std::string& image, const oci::Descriptor& manifest, Deadline deadline);

}  // namespace fluyt::image::policy
