#include "image/registry/credentials.h"

namespace fluyt::image {

namespace {

// The host of "https://host:port/path" or "host:port/path"; the many names of Docker Hub become
// one.
std::string_view host_of(std::string_view address) {
  if (const size_t scheme = address.find("://"); scheme != std::string_view::npos) {
    address.remove_prefix(scheme + 3);
  }
  address = address.substr(0, address.find('/'));
  if (address == "index.docker.io" || address == "registry-1.docker.io") return "docker.io";
  return address;
}

}  // namespace

bool Credentials::are_for(std::string_view host) const {
  if (empty()) return false;
  return server_address.empty() || host_of(server_address) == host_of(host);
}

}  // namespace fluyt::image
