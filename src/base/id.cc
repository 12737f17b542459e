#include "base/id.h"

#include <sys/random.h>

#include <array>
#include <cstdlib>

#include "base/strings.h"

namespace fluyt {

std::string make_id() {
  std::array<char, 32> bytes{};
  // 32 bytes never come short and never block once the pool is up (getrandom(2)).
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) abort();
  return to_hex({bytes.data(), bytes.size()});
}

bool is_valid_container_id(std::string_view text) {
  if (text.empty() || text.size() > 1024 || text == "." || text == "..") return false;
  for (const char c : text) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || c == '+' || c == '-' || c == '.';
    if (!good) return false;
  }
  return true;
}

}  // namespace fluyt
