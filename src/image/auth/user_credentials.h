#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "image/auth/credentials.h"
#include "oci/reference.h"

namespace fluyt::image {

/// What the person whose environment `env` is ("NAME=value" each) has for the registry and
/// repository of `reference`, for that registry alone; empty when there is nothing. Looked for in
/// $REGISTRY_AUTH_FILE, or else in turn in $DOCKER_CONFIG/config.json (or ~/.docker/config.json),
/// $XDG_RUNTIME_DIR/containers/auth.json and ~/.config/containers/auth.json; the first that knows
/// some is taken. Within a file: a helper of its own for the host, then the longest prefix of
/// `auths`, then `credsStore`.
Result<Credentials> find_user_credentials(const oci::Reference& reference,
                                          const std::vector<std::string>& env);

}  // namespace fluyt::image
