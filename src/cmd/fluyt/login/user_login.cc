#include "cmd/fluyt/login/user_login.h"

#include <unistd.h>

#include <vector>

#include "image/auth/user_credentials.h"
#include "oci/reference.h"

namespace fluyt::cli {

namespace {

std::vector<std::string> environment() {
  std::vector<std::string> out;
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
    out.emplace_back(*entry);
  }
  return out;
}

}  // namespace

Result<UserLogin> find_user_login(const std::string& image) {
  const auto reference = oci::Reference::parse(image);
  if (!reference.ok()) return UserLogin{};
  const image::Credentials found =
      FLUYT_TRY(image::find_user_credentials(*reference, environment()));
  return UserLogin{found.username, found.password, found.identity_token, found.registry_token,
                   found.server_address};
}

}  // namespace fluyt::cli
