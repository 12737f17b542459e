#include "image/auth/credentials.h"

#include "base/base64.h"
#include "base/strings.h"

namespace fluyt::image {

std::string_view host_of_address(std::string_view address) {
  if (const size_t scheme = address.find("://"); scheme != std::string_view::npos) {
    address.remove_prefix(scheme + 3);
  }
  address = address.substr(0, address.find_first_of("/?#"));
  if (address == "index.docker.io" || address == "registry-1.docker.io" ||
      address == "registry.hub.docker.com") {
    return "docker.io";
  }
  return address;
}

Credentials Credentials::or_for(const std::string& registry) && {
  if (server_address.empty()) server_address = registry;
  return std::move(*this);
}

bool Credentials::are_for(std::string_view host) const {
  if (empty() || server_address.empty()) return false;
  return to_lower(host_of_address(server_address)) == to_lower(host_of_address(host));
}

Result<> set_from_basic(std::string_view text, Credentials& credentials) {
  // Never shown in an error: it is a password.
  const auto decoded = base64_decode(text);
  const size_t colon = decoded ? decoded->find(':') : std::string::npos;
  if (colon == std::string::npos) {
    return Error(Code::kInvalidArgument, "expected base64 of user:password");
  }
  credentials.username = decoded->substr(0, colon);
  credentials.password = decoded->substr(colon + 1);
  while (credentials.password.ends_with('\0')) credentials.password.pop_back();
  // What Docker writes where a helper gave a token instead of a password.
  if (credentials.username == "<token>") {
    credentials.identity_token = std::move(credentials.password);
    credentials.username.clear();
    credentials.password.clear();
  }
  return {};
}

}  // namespace fluyt::image
