#include <cstddef>
#include <cstdint>
#include <string_view>

#include "image/registry/www_authenticate.h"

// Whatever a registry sends is parsed or refused; what was parsed keeps the stated limits.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using fluyt::image::registry::kMaxChallenges;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto challenges = fluyt::image::registry::parse_www_authenticate(text);
  if (!challenges.ok()) return 0;
  if (challenges->size() > kMaxChallenges) __builtin_trap();
  for (const auto& challenge : *challenges) {
    if (challenge.scheme.empty()) __builtin_trap();
    if (!challenge.token68.empty() && !challenge.params.empty()) __builtin_trap();
  }
  return 0;
}
