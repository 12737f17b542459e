#include "monitor/protocol/release.h"

namespace fluyt::monitor {

std::string_view release() { return FLUYT_VERSION; }

}  // namespace fluyt::monitor
