#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::image {

/// What one pull or push may log in with. Never stored: it lives as long as that.
struct Credentials {
  std::string username;
  std::string password;
  std::string identity_token;  // an OAuth2 refresh token
  std::string registry_token;  // a bearer token, used as it is
  std::string server_address;  // empty: for the registry that the image's name says

  bool empty() const {
    return username.empty() && password.empty() && identity_token.empty() && registry_token.empty();
  }
  /// The same, for `registry` where they do not say what they are for.
  Credentials or_for(const std::string& registry) &&;
  /// Whether they may be shown to `host` (host[:port]): never without a server_address. That may be
  /// a URL, such as https://index.docker.io/v1/, which stands for docker.io.
  bool are_for(std::string_view host) const;
};

/// The host[:port] of "https://host:port/path" or "host:port/path"; the many names of Docker Hub
/// become docker.io.
std::string_view host_of_address(std::string_view address);

/// Reads Docker's `auth`: base64 of "user:password"; the user "<token>" stands for an identity
/// token. The error shows nothing of it.
Result<> set_from_basic(std::string_view text, Credentials& credentials);

}  // namespace fluyt::image
