#include "image/registry/proxy.h"

#include <arpa/inet.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#include "base/strings.h"

namespace fluyt::image::registry {

namespace {

constexpr size_t kMaxEntries = 1024;

struct Address {
  std::array<uint8_t, 16> bytes{};
  unsigned bits = 0;  // 32 or 128
};

std::string_view without_brackets(std::string_view host) {
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    return host.substr(1, host.size() - 2);
  }
  return host;
}

std::optional<Address> address_of(std::string_view host) {
  const std::string text(without_brackets(host));
  Address out;
  if (inet_pton(AF_INET, text.c_str(), out.bytes.data()) == 1) {
    out.bits = 32;
    return out;
  }
  if (inet_pton(AF_INET6, text.c_str(), out.bytes.data()) == 1) {
    out.bits = 128;
    return out;
  }
  return std::nullopt;
}

bool is_in_network(const Address& address, std::string_view network) {
  const size_t slash = network.find('/');
  const auto base = address_of(network.substr(0, slash));
  const auto length = parse_number<unsigned>(network.substr(slash + 1));
  if (!base || !length || *length > base->bits || base->bits != address.bits) return false;
  for (unsigned bit = 0; bit < *length; ++bit) {
    const unsigned mask = 0x80U >> (bit % 8);
    if ((base->bytes[bit / 8] & mask) != (address.bytes[bit / 8] & mask)) return false;
  }
  return true;
}

bool is_domain_of(std::string_view host, std::string_view domain) {
  if (domain.starts_with("*.")) domain.remove_prefix(1);
  if (domain.starts_with('.')) return host.size() > domain.size() && host.ends_with(domain);
  return host == domain || (host.size() > domain.size() && host.ends_with(domain) &&
                            host[host.size() - domain.size() - 1] == '.');
}

// "host:port" in its parts; an address of IPv6 has a port only behind brackets.
std::pair<std::string_view, std::string_view> split_port(std::string_view entry) {
  const size_t colon = entry.rfind(':');
  const bool has_port = colon != std::string_view::npos &&
                        (entry.find(':') == colon || (colon > 0 && entry[colon - 1] == ']'));
  if (!has_port) return {entry, {}};
  return {entry.substr(0, colon), entry.substr(colon + 1)};
}

bool is_excepted(std::string_view entry, const Url& url) {
  if (entry == "*") return true;
  const auto address = address_of(url.host);
  if (entry.find('/') != std::string_view::npos) return address && is_in_network(*address, entry);
  const auto [host, port] = split_port(entry);
  const std::string_view actual = !url.port.empty()       ? std::string_view(url.port)
                                  : url.scheme == "https" ? "443"
                                                          : "80";
  if (!port.empty() && port != actual) return false;
  if (const auto named = address_of(host)) {
    return address && named->bits == address->bits && named->bytes == address->bytes;
  }
  return is_domain_of(url.host, host);
}

Result<std::string> url_from(const std::function<std::string(const char*)>& get, const char* name,
                             const char* lower_name) {
  std::string value = get(name);
  if (value.empty()) value = get(lower_name);
  if (value.empty()) return value;
  if (value.find("://") == std::string::npos) value.insert(0, "http://");
  const std::string_view scheme = std::string_view(value).substr(0, value.find("://"));
  const bool known =
      scheme == "http" || scheme == "https" || scheme == "socks5" || scheme == "socks5h";
  if (!known || has_control_characters(value) || value.find(' ') != std::string::npos ||
      value.size() == scheme.size() + 3) {
    return Error(Code::kInvalidArgument,
                 cat(name, ": expected a URL of http, https, socks5 or socks5h"));
  }
  return value;
}

}  // namespace

Result<ProxySettings> proxy_settings_from(const std::function<std::string(const char*)>& get) {
  ProxySettings out;
  out.http = FLUYT_TRY(url_from(get, "HTTP_PROXY", "http_proxy"));
  out.https = FLUYT_TRY(url_from(get, "HTTPS_PROXY", "https_proxy"));
  std::string list = get("NO_PROXY");
  if (list.empty()) list = get("no_proxy");
  for (const std::string_view piece : split(list, ',')) {
    const std::string_view entry = trim(piece);
    if (entry.empty()) continue;
    if (out.no_proxy.size() == kMaxEntries) {
      return Error(Code::kInvalidArgument,
                   cat("NO_PROXY: expected at most ", kMaxEntries, " entries"));
    }
    out.no_proxy.push_back(to_lower(entry));
  }
  return out;
}

std::string proxy_for(const ProxySettings& settings, const Url& url) {
  const std::string& proxy = url.scheme == "https" ? settings.https : settings.http;
  if (proxy.empty() || url.is_loopback()) return {};
  for (const std::string& entry : settings.no_proxy) {
    if (is_excepted(entry, url)) return {};
  }
  return proxy;
}

}  // namespace fluyt::image::registry
