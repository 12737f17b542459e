#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/registry/url.h"

namespace fluyt::image::registry {

/// Which proxy stands between us and a server, as the usual variables say it.
struct ProxySettings {
  std::string http;  // a URL, perhaps with a user and password; empty: none
  std::string https;
  std::vector<std::string> no_proxy;  // hosts, domains, addresses and networks reached directly
};

/// HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or the same in lower case. `get` gives a variable's value,
/// or
/// "". A proxy that is no URL is kInvalidArgument naming the variable and nothing of its value,
/// which may hold a password.
Result<ProxySettings> proxy_settings_from(const std::function<std::string(const char*)>& get);

/// The proxy for `url`; empty: go directly. This machine itself is always reached directly. An
/// entry of NO_PROXY is "*", an address, a network (10.0.0.0/8), a domain with what is below it
/// ("example.org"), or only what is below it (".example.org", "*.example.org"); all but networks
/// may end in a :port.
std::string proxy_for(const ProxySettings& settings, const Url& url);

}  // namespace fluyt::image::registry
