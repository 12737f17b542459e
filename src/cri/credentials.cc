#include "cri/credentials.h"

namespace fluyt::cri {

Result<image::Credentials> credentials_of(const api::AuthConfig& auth) {
  image::Credentials credentials;
  credentials.username = auth.username();
  credentials.password = auth.password();
  credentials.identity_token = auth.identity_token();
  credentials.registry_token = auth.registry_token();
  credentials.server_address = auth.server_address();
  if (auth.auth().empty() || !credentials.username.empty()) return credentials;
  FLUYT_TRY_CONTEXT(image::set_from_basic(auth.auth(), credentials), "auth.auth");
  return credentials;
}

}  // namespace fluyt::cri
