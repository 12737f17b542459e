#include "base/strings.h"
#include "engine/core.h"
#include "sys/file.h"

namespace fluyt::engine {

Host probe_host() {
  Host host;
  auto text = sys::read_file("/proc/self/oom_score_adj", 64);
  const auto own = text.ok() ? parse_number<int64_t>(trim(*text)) : std::nullopt;
  if (!own) {
    host.lacks.emplace_back(
        "/proc/self/oom_score_adj cannot be read: OOM scores are left as they are");
    host.oom_score_floor = 1000;
    return host;
  }
  // Lowering one's score needs CAP_SYS_RESOURCE; the kernel has no other way to ask than to try.
  const Result<> lowered = sys::write_file(sys::kCwd, "/proc/self/oom_score_adj", cat(*own - 1));
  if (lowered.ok()) {
    sys::write_file(sys::kCwd, "/proc/self/oom_score_adj", cat(*own))
        .ignore("raising it back needs no capability");
    return host;
  }
  host.oom_score_floor = *own;
  host.lacks.push_back(
      cat("CAP_SYS_RESOURCE: a container's oom_score_adj below ", *own, " is raised to ", *own));
  return host;
}

}  // namespace fluyt::engine
