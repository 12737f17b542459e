#pragma once

#include <string>

#include "base/result.h"
#include "monitor/protocol/messages.h"

namespace fluyt::monitor {

/// Dumps a container of the linked runtime through CRIU into the request's folder, leaving it
/// running, with the specification at `spec_path` beside the images. In a worker.
Result<> dump_container(const ContainerInfo& container, const wire::Checkpoint& verb,
                        const std::string& spec_path);

}  // namespace fluyt::monitor
