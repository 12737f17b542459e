#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "cmd/runtime/user/user.h"

namespace {

// The text that the ids were written as, without the zeros in front.
std::string plain(std::string_view digits) {
  const size_t first = std::min(digits.find_first_not_of('0'), digits.size() - 1);
  return std::string(digits.substr(first));
}

}  // namespace

/// Whatever is taken is digits alone, and is the number that they write; whatever is not changes
/// nothing.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace runf = fluyt::commands;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fluyt::oci::User user;
  user.uid = 600;
  user.gid = 700;
  const bool taken = commands::set_user(text, user).ok();
  const size_t colon = text.find(':');
  const std::string_view uid = text.substr(0, colon);
  const bool two = colon != std::string_view::npos;
  const std::string_view gid = two ? text.substr(colon + 1) : std::string_view("700");
  constexpr std::string_view kDigits = "0123456789";
  const bool digits = !uid.empty() && !gid.empty() &&
                      uid.find_first_not_of(kDigits) == std::string_view::npos &&
                      gid.find_first_not_of(kDigits) == std::string_view::npos;
  if (!taken) {
    if (user.uid != 600 || user.gid != 700) abort();
    return 0;
  }
  if (!digits || user.uid > commands::kMaxId || user.gid > commands::kMaxId ||
      std::to_string(user.uid) != plain(uid) || std::to_string(user.gid) != plain(gid)) {
    abort();
  }
  return 0;
}
