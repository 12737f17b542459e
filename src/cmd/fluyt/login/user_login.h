#pragma once

#include <string>

#include "base/result.h"

namespace fluyt::cli {

/// What the person who runs us has for a registry; all empty: nothing.
struct UserLogin {
  std::string username;
  std::string password;
  std::string identity_token;
  std::string registry_token;
  std::string server_address;
};

/// Looked for by the name of an image in the files and credential helpers that
/// image/auth/user_credentials.h lists. A name that is none has nothing: fluytd says what is wrong
/// with it.
Result<UserLogin> find_user_login(const std::string& image);

}  // namespace fluyt::cli
