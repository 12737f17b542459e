#pragma once

#include "cmd/fluyt/client.h"

namespace fluyt::cli {

/// Says on standard error what goes out of an image that came with others.
void tell(const control::OneOfSeveral& one);

}  // namespace fluyt::cli
