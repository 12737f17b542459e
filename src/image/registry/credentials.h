#pragma once

#include <string>
#include <string_view>

namespace fluyt::image {

/// What one pull may log in with. Never stored: it lives as long as the pull.
struct Credentials {
  std::string username;
  std::string password;
  std::string identity_token;  // an OAuth2 refresh token
  std::string registry_token;  // a bearer token, used as it is
  std::string server_address;  // empty: for any host that asks during this pull

  bool empty() const {
    return username.empty() && password.empty() && identity_token.empty() && registry_token.empty();
  }
  /// Whether they may be shown to `host` (host[:port]). A server_address may be a URL, such as
  /// https://index.docker.io/v1/, which stands for docker.io.
  bool are_for(std::string_view host) const;
};

}  // namespace fluyt::image
