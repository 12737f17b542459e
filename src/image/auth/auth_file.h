#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.h"
#include "image/auth/credential_table.h"

namespace fluyt::image {

/// What Docker's config.json or containers' auth.json says of logging in.
struct AuthFile {
  CredentialTable auths;
  std::map<std::string, std::string> helpers;  // credHelpers: host to the X of docker-credential-X
  std::string store;                           // credsStore: the helper for every other host
};

inline constexpr size_t kMaxAuthFileBytes = 4UL << 20U;

/// Parses it; `file` names it in errors, which show no secret. Keys that say nothing of logging in
/// are passed over, since Docker keeps all its settings there; entries without any credentials too:
/// Docker leaves those where a helper has them.
Result<AuthFile> parse_auth_file(std::string_view text, const std::string& file);

}  // namespace fluyt::image
