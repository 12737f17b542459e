#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace fluyt::image::registry {

/// An absolute http or https URL in its parts (RFC 3986). User and password in a URL are refused:
/// credentials come by their own way.
struct Url {
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case; IPv6 in brackets
  std::string port;    // as written; empty: the scheme's
  std::string path;    // "" or starting with '/'
  std::string query;   // without '?'

  static Result<Url> parse(std::string_view text);
  /// The URL that `location` (absolute or relative) means when this one answered with it.
  Result<Url> resolve(std::string_view location) const;
  std::string text() const;
  /// host[:port] as written.
  std::string host_port() const;
  /// Whether both go to the same server: scheme, host and port.
  bool same_origin(const Url& other) const;
  bool is_loopback() const;
};

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
std::string percent_encode(std::string_view text);
/// Whether `host` (no port; IPv6 with or without brackets) is this machine by its very name:
/// localhost, 127.0.0.0/8 or ::1.
bool is_loopback_host(std::string_view host);

}  // namespace fluyt::image::registry
