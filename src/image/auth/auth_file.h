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
  std::map<std::string, std::string> broken;   // by host: what is wrong with an entry for it

  /// kInvalidArgument where an entry for the host of `registry` cannot be used.
  Result<> check(std::string_view registry) const;
};

inline constexpr size_t kMaxAuthFileBytes = 4UL << 20U;

/// Parses it; `file` names it in errors, which show no secret. Keys that say nothing of logging in
/// are passed over, since Docker keeps all its settings there; entries without any credentials too:
/// Docker leaves those where a helper has them; and the tokens of Docker's own that it keeps under
/// names of Docker Hub's. An entry that cannot be used is an error for its own host alone: check().
Result<AuthFile> parse_auth_file(std::string_view text, const std::string& file);

}  // namespace fluyt::image
