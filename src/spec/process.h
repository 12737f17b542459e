#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/runtime_spec.h"
#include "spec/container_spec.h"

/// What the container runs, and with what words: for container_spec.cc alone.
namespace fluyt::spec::internal {

/// CRI's command and args over the image's entrypoint and cmd.
Result<std::vector<std::string>> program_of(const Container& container,
                                            const oci::ImageConfig& image);

/// The image's variables under the container's, over what everybody expects to find.
Result<std::vector<std::string>> environment_of(const Container& container, const Sandbox& sandbox,
                                                const oci::ImageConfig& image,
                                                const std::string& home);

Result<std::string> working_dir_of(const Container& container, const oci::ImageConfig& image);

}  // namespace fluyt::spec::internal
