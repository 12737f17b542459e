#include "sys/rights.h"

#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "sys/identity.h"

namespace fluyt::sys {

bool is_root_of_machine() {
  if (geteuid() != 0) return false;
  const char* user = getenv("USER");
  const bool root_logged_in = user != nullptr && std::string_view(user) == "root";
  return root_logged_in || getenv("XDG_RUNTIME_DIR") == nullptr || !in_user_namespace();
}

}  // namespace fluyt::sys
